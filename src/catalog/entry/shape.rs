//! The shapes that members of entries must have (schema of each revision).

use crate::call::ListKind;

/// The largest whole number that every client holds exactly.
pub(super) const WHOLE_MAX: f64 = 9_007_199_254_740_991.0;

/// Shape that a value must have.
pub(super) enum Shape {
    Text,
    Flag,
    /// A whole number.
    Whole,
    /// A number from 0 to 1.
    Share,
    /// Date and time of RFC 3339.
    Moment,
    OneOf(&'static [&'static str]),
    ListOf(&'static Self),
    AnyObject,
    Object(&'static [Member]),
    /// The schema of a tool's arguments: that of an object.
    Input,
    /// The schema of a tool's results.
    Output,
}

/// A member of an object that clients read.
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) without: Without,
}

/// The remedy for an object whose member is missing or wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Without {
    /// The object does without it.
    Fine,
    /// Its identifying member takes the place.
    Key,
    /// The object is of no use.
    Useless,
}

const fn may(name: &'static str, shape: Shape) -> Member {
    Member { name, shape, without: Without::Fine }
}

const fn must(name: &'static str, shape: Shape) -> Member {
    Member { name, shape, without: Without::Useless }
}

const NAME: Member = Member { name: "name", shape: Shape::Text, without: Without::Key };

const TITLE: Member = may("title", Shape::Text);

const DESCRIPTION: Member = may("description", Shape::Text);

const META: Member = may("_meta", Shape::AnyObject);

const ICONS: Member = may("icons", Shape::ListOf(&Shape::Object(&ICON)));

const MIME_TYPE: Member = may("mimeType", Shape::Text);

const ANNOTATED: Member = may("annotations", Shape::Object(&ANNOTATIONS));

const TOOL: [Member; 8] = [
    TITLE,
    DESCRIPTION,
    must("inputSchema", Shape::Input),
    may("outputSchema", Shape::Output),
    may("annotations", Shape::Object(&HINTS)),
    ICONS,
    may("execution", Shape::Object(&EXECUTION)),
    META,
];

const PROMPT: [Member; 5] =
    [TITLE, DESCRIPTION, may("arguments", Shape::ListOf(&Shape::Object(&ARGUMENT))), ICONS, META];

const RESOURCE: [Member; 8] =
    [NAME, TITLE, DESCRIPTION, MIME_TYPE, may("size", Shape::Whole), ANNOTATED, ICONS, META];

const TEMPLATE: [Member; 7] = [NAME, TITLE, DESCRIPTION, MIME_TYPE, ANNOTATED, ICONS, META];

const HINTS: [Member; 5] = [
    TITLE,
    may("readOnlyHint", Shape::Flag),
    may("destructiveHint", Shape::Flag),
    may("idempotentHint", Shape::Flag),
    may("openWorldHint", Shape::Flag),
];

const ANNOTATIONS: [Member; 3] = [
    may("audience", Shape::ListOf(&Shape::OneOf(&["user", "assistant"]))),
    may("priority", Shape::Share),
    may("lastModified", Shape::Moment),
];

const EXECUTION: [Member; 1] =
    [may("taskSupport", Shape::OneOf(&["required", "optional", "forbidden"]))];

const ICON: [Member; 4] = [
    must("src", Shape::Text),
    MIME_TYPE,
    may("sizes", Shape::ListOf(&Shape::Text)),
    may("theme", Shape::OneOf(&["light", "dark"])),
];

const ARGUMENT: [Member; 4] =
    [must("name", Shape::Text), TITLE, DESCRIPTION, may("required", Shape::Flag)];

pub(super) fn table(kind: ListKind) -> &'static [Member] {
    match kind {
        ListKind::Tools => &TOOL,
        ListKind::Prompts => &PROMPT,
        ListKind::Resources => &RESOURCE,
        ListKind::Templates => &TEMPLATE,
    }
}
