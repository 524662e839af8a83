//! Tasks of a fake: those of the extension (modern), and those of 2025-11-25, which the client
//! wishes for.

use std::time::Duration;

use hyper::Response;
use serde_json::{Value, json};

use super::{
    Fake, answer,
    http::{Body, Exchange, event, events},
};
use crate::message::members;

const TASKS: &str = "io.modelcontextprotocol/tasks";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const BASE: &str = r#""createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:00Z""#;

/// A task under way: what each look at it finds, as raw members of a `DetailedTask`.
#[derive(Clone)]
pub struct Job {
    steps: Vec<String>,
    at: usize,
}

impl Job {
    pub fn step(&self) -> &str {
        &self.steps[self.at.min(self.steps.len() - 1)]
    }

    /// A step that waits for answers goes on when it has them.
    fn looked(&mut self, answered: bool) {
        if answered == self.step().contains("input_required") {
            self.at += 1;
        }
    }

    fn status(&self) -> String {
        serde_json::from_str(&self.member("status").unwrap()).unwrap()
    }

    fn member(&self, name: &str) -> Option<String> {
        members(format!("{{{}}}", self.step()).as_bytes()).remove(name)
    }
}

impl Fake {
    /// The tasks that are not at their end.
    pub fn jobs_underway(&self) -> usize {
        let live = self.0.live.lock();
        let done = |job: &&Job| ["completed", "failed", "cancelled"].contains(&&*job.status());
        live.jobs.values().filter(|job| !done(job)).count()
    }
}

impl Exchange {
    /// Gives a task in place of a result, if the client takes one.
    pub(super) fn begins_job(self, steps: Vec<String>) -> Response<Body> {
        let params = self.message.params();
        let declared = params["_meta"][CAPABILITIES]["extensions"].get(TASKS).is_some();
        match (self.modern, declared, params.get("task").is_some()) {
            (true, false, _) => return self.refuse(answer::error(400, -32021, "needs tasks")),
            (false, _, false) => return self.refuse(answer::error(200, -32601, "needs a task")),
            _ => (),
        }
        let id = self.fake.next_id("job-");
        let job = Job { steps, at: 0 };
        self.fake.0.live.lock().jobs.insert(id.clone(), job);
        let result = match self.modern {
            true => format!(
                r#"{{"resultType":"task","taskId":"{id}","status":"working",{BASE},"ttlMs":60000,"pollIntervalMs":100}}"#
            ),
            false => format!(
                r#"{{"task":{{"taskId":"{id}","status":"working",{BASE},"ttl":60000,"pollInterval":100}}}}"#
            ),
        };
        self.result(&result)
    }

    /// Answers a request about a task.
    pub(super) fn on_job(self) -> Response<Body> {
        let id = self.message.params()["taskId"].as_str().unwrap_or_default().to_owned();
        let found = self.fake.0.live.lock().jobs.get(&id).cloned();
        let Some(job) = found else {
            return self.refuse(answer::error(200, -32602, "the upstream knows no such task"));
        };
        let method = self.message.method.clone().unwrap_or_default();
        let edit = |change: &dyn Fn(&mut Job)| {
            change(self.fake.0.live.lock().jobs.get_mut(&id).unwrap());
        };
        match method.as_str() {
            "tasks/get" => edit(&|job| job.looked(false)),
            "tasks/update" => edit(&|job| job.looked(true)),
            "tasks/cancel" => edit(&|job| {
                *job = Job { steps: vec![r#""status":"cancelled""#.to_owned()], at: 0 };
            }),
            _ => (),
        }
        match (self.modern, method.as_str()) {
            (true, "tasks/get") => {
                let step = job.step();
                self.result(&format!(
                    r#"{{"resultType":"complete","taskId":"{id}",{BASE},"ttlMs":60000,{step}}}"#
                ))
            }
            (true, "tasks/update" | "tasks/cancel") => self.result(r#"{"resultType":"complete"}"#),
            (false, "tasks/get" | "tasks/cancel") => {
                let cancelled = method == "tasks/cancel";
                let status = if cancelled { "cancelled".to_owned() } else { job.status() };
                self.result(&format!(
                    r#"{{"taskId":"{id}","status":"{status}",{BASE},"ttl":60000,"pollInterval":100}}"#
                ))
            }
            (false, "tasks/result") => self.gives_result(id),
            _ => self.refuse(answer::error(404, -32601, "method not found")),
        }
    }

    /// 2025-11-25: the stream of `tasks/result` carries questions, and then the result.
    fn gives_result(mut self, id: String) -> Response<Body> {
        let (sender, body) = events();
        tokio::spawn(async move {
            loop {
                let job = self.fake.0.live.lock().jobs[&id].clone();
                match job.status().as_str() {
                    "input_required" => {
                        let requests = job.member("inputRequests").unwrap();
                        let requests: serde_json::Map<String, Value> =
                            serde_json::from_str(&requests).unwrap();
                        for request in requests.values() {
                            if !self.asks_of_job(&id, request, &sender).await {
                                return;
                            }
                        }
                        self.fake.0.live.lock().jobs.get_mut(&id).unwrap().looked(true);
                    }
                    "working" => tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(5)) => (),
                        () = sender.closed() => return,
                    },
                    _ => {
                        self.ends_job(&id, &job, &sender);
                        return self.completes();
                    }
                }
            }
        });
        body
    }

    async fn asks_of_job(&self, id: &str, request: &Value, sender: &super::Stream) -> bool {
        let mut params = request["params"].clone();
        params["_meta"] = json!({ "io.modelcontextprotocol/related-task": { "taskId": id } });
        let method = request["method"].as_str().unwrap();
        let ask = (method.to_owned(), params.to_string());
        tokio::select! {
            _ = self.asks(ask, sender) => true,
            () = sender.closed() => false,
        }
    }

    fn ends_job(&self, id: &str, job: &Job, sender: &super::Stream) {
        let related = format!(r#"{{"io.modelcontextprotocol/related-task":{{"taskId":"{id}"}}}}"#);
        let text = match job.member("result") {
            Some(result) => {
                let open = result.strip_suffix('}').unwrap();
                self.envelope("result", &format!(r#"{open},"_meta":{related}}}"#))
            }
            None => self.envelope("error", &job.member("error").unwrap_or("{}".into())),
        };
        self.note(&text);
        drop(sender.send(event(&text)));
    }
}
