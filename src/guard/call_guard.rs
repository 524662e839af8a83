//! The guard of one call: checks its arguments and its results.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    audit::Entry,
    config::{ArgumentCheck, Place, Then},
    mcp::{
        document::{CallArguments, Document, JsonNode},
        raw::Raw,
        result, splice,
    },
    telemetry::{Counter, Counters},
};

use super::{
    detect::{DetectorSelection, Detectors, ScanResult},
    memory::{HeldMemory, NoMemory, ValueMemory},
    read::ReadArguments,
    refusal::GuardRefusal,
    schema::Checker,
    schemas::{Schemas, Side, ToolSchemas},
    value,
};

/// Bytes from which on a value is checked beside the threads that serve: below it takes some
/// milliseconds at most.
const LARGE: usize = 64 << 10;

/// The member of a call's params that has what a tool is asked for.
pub(super) const ARGUMENTS: &str = "arguments";

/// Members at the top of params and results that are handles, not words: a server that is given
/// another one back does not know it.
const HANDLES: [&str; 4] = ["requestState", "taskId", "nextCursor", "resultType"];

/// Members of a client's params that lead to something, and are not looked through.
const LEADING: [&str; 4] = ["name", "taskId", "requestState", "cursor"];

/// The member of a client's params that has a resource's URI: it is the client's own words, and
/// another one in its place would lead elsewhere.
const URI: &str = "uri";

/// Members of each member of params that are handles.
const INNER_HANDLES: [(&str, &[&str]); 2] =
    [("_meta", &["progressToken"]), ("ref", &["type", "name", "uri"])];

/// Members of a client's params by the protocol; the names of any others are its own words.
const KNOWN: [&str; 7] = [URI, "_meta", "ref", "argument", "context", "inputResponses", "task"];

/// Checks that hold for one call, and for its way back.
#[derive(Debug, Clone)]
pub struct Guard {
    pub(super) arguments: ArgumentCheck,
    /// Arguments that are held to the schema to the letter, however lenient it is with others.
    pub(super) reads: ReadArguments,
    pub(super) checks_results: bool,
    pub(super) refuses_unusable: bool,
    pub(super) arguments_max: Option<usize>,
    pub(super) result_max: Option<usize>,
    /// A result with more is kept for its caller.
    pub links: bool,
    pub(super) looks: [Option<Arc<DetectorSelection>>; 3],
    pub(super) detectors: Option<Arc<Detectors>>,
    /// The record of the call, which is told what is found.
    pub(super) entry: Option<Arc<Entry>>,
    pub(super) counters: Arc<Counters>,
}

impl Guard {
    /// Makes the same checks also tell the record of a call what they find.
    pub fn recorded_in(self, entry: Option<&Arc<Entry>>) -> Self {
        Self { entry: entry.map(Arc::clone), ..self }
    }

    /// Judges what a client's request says, whose params have these arguments: its params, cleaned.
    ///
    /// # Errors
    /// Where its arguments are too large, are not what the tool takes, or have what must not pass.
    pub fn admit(
        &self,
        params: &Raw,
        arguments: &CallArguments,
        tool: Option<&ToolSchemas>,
        schemas: &Schemas,
    ) -> Result<Raw, GuardRefusal> {
        let judged = self.judged(params, arguments, tool, schemas);
        if let Err(refusal) = &judged {
            refusal.counter().into_iter().for_each(|counter| self.counters.add(counter));
        }
        judged
    }

    /// Judges what a server answered, asked or told: it, cleaned.
    ///
    /// # Errors
    /// Where it has what must not pass.
    pub fn scan(&self, said: &Raw) -> Result<Raw, GuardRefusal> {
        self.cleaned(Place::Results, &Document::new(said.clone()), &HANDLES)
    }

    /// Judges a tool's result: it, cleaned, and held to what the tool promises where it is the end
    /// of a call.
    ///
    /// # Errors
    /// Where it has what must not pass, or breaks the promise.
    pub fn judge_result(
        &self,
        result: &Raw,
        tool: Option<&ToolSchemas>,
        schemas: &Schemas,
    ) -> Result<Raw, GuardRefusal> {
        let document = Document::new(result.clone());
        let clean = self.cleaned(Place::Results, &document, &HANDLES)?;
        // Only a large one is judged on a thread that may wait, and cleaning may make it longer.
        let memory = self.takes_long_with(result).then(|| schemas.memory());
        let checked = if clean.is(result) {
            self.check_result(&document, memory, tool, schemas)
        } else {
            self.check_result(&Document::new(clean.clone()), memory, tool, schemas)
        };
        checked.inspect_err(|refusal| {
            refusal.counter().into_iter().for_each(|counter| self.counters.add(counter));
        })?;
        Ok(clean)
    }

    /// Whether judging what a request says may take long: [`Guard::admit`] is for a thread beside
    /// those that serve then.
    pub fn takes_long(&self, params: &Raw) -> bool {
        (self.checks_arguments() || self.looks_in(Place::Arguments)) && LARGE < params.bytes().len()
    }

    /// Whether [`Guard::judge_result`] is for a thread beside those that serve.
    pub fn takes_long_with(&self, result: &Raw) -> bool {
        (self.checks_results || self.looks_in(Place::Results)) && LARGE < result.bytes().len()
    }

    /// Returns what is wrong with arguments that policies cannot read, by the tool's schema.
    pub fn misfit(
        &self,
        arguments: &CallArguments,
        tool: &ToolSchemas,
        schemas: &Schemas,
    ) -> Option<GuardRefusal> {
        let found = arguments.document()?;
        if !self.checks_arguments() || LARGE < found.text().bytes().len() {
            return None;
        }
        let strict = Self { arguments: ArgumentCheck::Schema, ..self.clone() };
        let refusal = strict.check_arguments(arguments, tool, schemas).err()?;
        refusal.counter().into_iter().for_each(|counter| self.counters.add(counter));
        Some(refusal)
    }

    /// Returns the refusal where there was no time to judge a request.
    pub fn late(&self) -> GuardRefusal {
        self.counters.add(Counter::SchemaChecksLate);
        GuardRefusal::Late
    }

    /// Returns the refusal where there was no time to judge a result.
    pub fn late_result(&self) -> GuardRefusal {
        self.counters.add(Counter::SchemaChecksLate);
        GuardRefusal::ResultLate
    }

    /// How many bytes a result has too many to be handed out.
    ///
    /// # Errors
    /// Where it has.
    pub fn check_size(&self, result: &Raw) -> Result<(), GuardRefusal> {
        let bytes = result.bytes().len();
        match self.result_max {
            Some(max) if max < bytes => Err(GuardRefusal::ResultBytes(bytes, max)),
            _ => Ok(()),
        }
    }

    fn judged(
        &self,
        params: &Raw,
        arguments: &CallArguments,
        tool: Option<&ToolSchemas>,
        schemas: &Schemas,
    ) -> Result<Raw, GuardRefusal> {
        if let Some(max) = self.arguments_max {
            let bytes = arguments.document().map_or(0, |found| found.text().bytes().len());
            if max < bytes {
                return Err(GuardRefusal::ArgumentBytes(bytes, max));
            }
        }
        if let Some(tool) = tool.filter(|_| self.checks_arguments()) {
            self.check_arguments(arguments, tool, schemas)?;
        }
        if !self.looks_in(Place::Arguments) {
            return Ok(params.clone());
        }
        let params = match arguments.document() {
            Some(said) => {
                let clean = self.cleaned(Place::Arguments, said, &[])?;
                match clean == *said.text() {
                    true => params.clone(),
                    false => splice::edit(params, &[(ARGUMENTS, Some(clean.bytes()))]),
                }
            }
            None => params.clone(),
        };
        self.clean_besides(&params)
    }

    /// Looks through all of a request's params but its arguments and what leads to something.
    fn clean_besides(&self, params: &Raw) -> Result<Raw, GuardRefusal> {
        let place = Place::Arguments;
        let mut seen = Vec::new();
        let members = splice::entries(params).into_iter();
        let members = members.filter(|(name, _)| name != ARGUMENTS && !LEADING.contains(&&**name));
        let mut clean = params.clone();
        for (name, said) in members {
            if !KNOWN.contains(&&*name) {
                self.refuse_found(place, &Raw::encode(&name))?;
            }
            if name == URI {
                self.refuse_found(place, &said)?;
                continue;
            }
            let handles = INNER_HANDLES.iter().find(|(of, _)| *of == name);
            let handles = handles.map_or(&[][..], |(_, handles)| handles);
            let cleaned = self.cleaned(place, &Document::new(said.clone()), handles)?;
            if cleaned != said {
                clean = splice::edit(&clean, &[(&name, Some(cleaned.bytes()))]);
            }
            // Nobody knows which of two a server reads, and only one of them is written over.
            if seen.contains(&name) {
                self.refuse_found(place, &said)?;
            }
            seen.push(name);
        }
        Ok(clean)
    }

    /// Refuses what would have to be written over and cannot be.
    fn refuse_found(&self, place: Place, said: &Raw) -> Result<(), GuardRefusal> {
        let found = self.found(place, &Document::new(said.clone()), &[]);
        let kept_back = |found: ScanResult| {
            let stronger = found.by.into_iter().find(|(_, then)| *then != Then::Flag);
            found.blocked.or(stronger.map(|(name, _)| name))
        };
        match found.and_then(kept_back) {
            Some(name) => Err(GuardRefusal::Blocked(place, name)),
            None => Ok(()),
        }
    }

    fn check_result(
        &self,
        result: &Document,
        memory: Option<&ValueMemory>,
        tool: Option<&ToolSchemas>,
        schemas: &Schemas,
    ) -> Result<(), GuardRefusal> {
        let Some(tool) = tool.filter(|_| self.checks_results) else { return Ok(()) };
        // Most tools promise nothing: their results need not be walked to know that.
        let Some(Ok(checker)) = tool.schema(Side::Output, schemas) else { return Ok(()) };
        if !result::ends_call(result.text()) || result::is_error(result.text()) {
            return Ok(());
        }
        let Some(content) = result.root().member("structuredContent") else {
            return Err(GuardRefusal::Result("it has no `structuredContent`".to_owned()));
        };
        let held = memory.map(|memory| take_for(content, memory)).transpose();
        let _held = held.map_err(|why| match why {
            NoMemory::Beyond { bytes, bytes_max } => GuardRefusal::ResultMemory(bytes, bytes_max),
            NoMemory::Late => GuardRefusal::ResultLate,
        })?;
        let value = content.value().map_err(|error| GuardRefusal::Result(error.to_string()))?;
        let size = value::size(&value);
        let work_max = schemas.work_max();
        let work = checker.work(size);
        if work_max < work {
            return Err(GuardRefusal::ResultWork(work, work_max));
        }
        checker.check(&value, size).map_err(GuardRefusal::Result)
    }

    fn check_arguments(
        &self,
        arguments: &CallArguments,
        tool: &ToolSchemas,
        schemas: &Schemas,
    ) -> Result<(), GuardRefusal> {
        let checker = match tool.schema(Side::Input, schemas) {
            None => return Ok(()),
            Some(Ok(checker)) => checker,
            Some(Err(_)) if self.refuses_unusable => return Err(GuardRefusal::Unchecked),
            Some(Err(_)) => {
                self.counters.add(Counter::UncheckedCalls);
                return Ok(());
            }
        };
        // Clients that have no arguments to send leave them out, or say `null`.
        let found = arguments.document().filter(|found| found.text().as_str() != "null");
        // Held until it is judged.
        let held = found.map(|found| take_for(found.root(), schemas.memory())).transpose();
        let judged = held.map_err(|why| match why {
            NoMemory::Beyond { bytes, bytes_max } => GuardRefusal::ArgumentMemory(bytes, bytes_max),
            NoMemory::Late => GuardRefusal::Late,
        });
        let judged = judged.and_then(|_held| {
            let value = found.map_or_else(|| Ok(Map::new().into()), |found| found.root().value());
            let value = value.map_err(|error| GuardRefusal::Arguments(error.to_string()))?;
            self.judge_arguments(value, tool, checker, schemas)
        });
        match judged {
            Err(refusal) if self.arguments == ArgumentCheck::Count => {
                self.counters.add(Counter::CountedArguments);
                schemas.tell_misfit(tool, &refusal.to_string());
                Ok(())
            }
            judged => judged,
        }
    }

    /// Holds arguments to a schema, as strictly as the configuration says.
    fn judge_arguments(
        &self,
        mut value: Value,
        tool: &ToolSchemas,
        checker: &Checker,
        schemas: &Schemas,
    ) -> Result<(), GuardRefusal> {
        let size = value::size(&value);
        let work_max = schemas.work_max();
        // Reckoned beforehand: what has begun cannot be interrupted.
        let work = checker.work(size);
        if work_max < work {
            return Err(GuardRefusal::ArgumentWork(work, work_max));
        }
        let Err(fault) = checker.check(&value, size) else { return Ok(()) };
        let is_read = |name: &str| self.reads.has(name);
        // Many clients say `null` of what they leave out (2026-07-28, transports: custom headers
        // from tool parameters).
        let nulls = value::take_nulls(&mut value, is_read);
        if !nulls.is_empty() && checker.fits(&value) {
            return Ok(());
        }
        value::put_nulls(&mut value, nulls);
        if self.arguments == ArgumentCheck::Lenient
            && checker.fits_leniently(value, work_max, &is_read)
        {
            self.counters.add(Counter::LenientArguments);
            schemas.tell_misfit(tool, &fault);
            return Ok(());
        }
        Err(GuardRefusal::Arguments(fault))
    }

    fn checks_arguments(&self) -> bool {
        self.arguments != ArgumentCheck::Off
    }

    /// Whether anything is looked for there.
    fn looks_in(&self, place: Place) -> bool {
        self.looks.get(place as usize).is_some_and(Option::is_some)
    }

    /// Returns what is said, as it may pass; the members of these names at its top are left alone.
    pub(super) fn cleaned(
        &self,
        place: Place,
        said: &Document,
        handles: &[&str],
    ) -> Result<Raw, GuardRefusal> {
        match self.found(place, said, handles) {
            None => Ok(said.text().clone()),
            Some(ScanResult { blocked: Some(name), .. }) => Err(GuardRefusal::Blocked(place, name)),
            Some(ScanResult { clean, .. }) => Ok(clean),
        }
    }

    /// Returns what detectors find, which the record of the call is told; none where none looks
    /// there.
    fn found(&self, place: Place, said: &Document, handles: &[&str]) -> Option<ScanResult> {
        let look = self.looks.get(place as usize).and_then(Option::as_ref);
        let (look, detectors) = look.zip(self.detectors.as_ref())?;
        let found = detectors.scan(look, said, handles, &self.counters);
        if let Some(entry) = self.entry.as_ref().filter(|_| !found.by.is_empty()) {
            let by = found.by.iter().map(|(name, then)| format!("{name} {then} {place}"));
            entry.guarded(by);
        }
        Some(found)
    }
}

/// Takes the memory for a value that is to be held to a schema; none for a small one.
fn take_for<'a>(
    node: JsonNode<'_>,
    memory: &'a ValueMemory,
) -> Result<Option<HeldMemory<'a>>, NoMemory> {
    match LARGE < node.range().len() {
        true => memory.take(node.value_bytes()).map(Some),
        false => Ok(None),
    }
}
