//! The features in which a server asks in mid-call.

use serde_json::{Value, json};

use super::{
    client::{Mood, Told},
    features::{Pair, Seen, Sight, at, same, told_by, without, works},
    spec::V2025_11_25,
    world,
};

impl Pair {
    pub async fn asked(&mut self, tool: &str) -> Sight {
        let told = self.client.call(tool, json!({})).await?;
        self.answered(&told, tool)
    }

    pub async fn moody(&mut self, mood: Mood, tool: &str) -> Sight {
        self.client.mood = mood;
        let seen = self.asked(tool).await;
        self.client.mood = Mood::Helpful;
        seen
    }

    pub async fn page_required(&mut self) -> Sight {
        let told = self.client.call("page", json!({})).await?;
        if told.answer.as_ref().is_some_and(Result::is_err) || is_refused(&told) {
            return self.answered(&told, "page");
        }
        let pages: Vec<_> = told.questions.iter().map(|(_, params)| &params["mode"]).collect();
        same(&pages, &vec![&json!("url")])?;
        same(told.text_block()?, "opened")
    }

    pub async fn asked_in_prompt(&mut self) -> Sight {
        let told = self.client.ask("prompts/get", json!({ "name": "asks" })).await?;
        let answers = json!([world::answer("roots/list", &json!({}))]);
        told_by(told, |told| {
            let text = &told.result()?["messages"][0]["content"]["text"];
            same(text, &json!(format!("null {answers}")))
        })
    }

    pub async fn asked_in_resource(&mut self) -> Sight {
        let uri = at(&self.list("resources").await?, 2)?["uri"].clone();
        let told = self.client.ask("resources/read", json!({ "uri": uri })).await?;
        let answers = json!([world::answer("roots/list", &json!({}))]);
        told_by(told, |told| {
            same(&told.result()?["contents"][0]["text"], &json!(answers.to_string()))
        })
    }

    pub async fn asked_in_completion(&mut self) -> Sight {
        if !self.client.may("completion/complete") {
            return without(["completions"]);
        }
        let reference = json!({ "type": "ref/prompt", "name": "greet" });
        let told = self.complete(&reference, "ask").await?;
        match told.result()?["completion"]["values"][2].as_str() {
            Some("answered") => works(),
            Some("refused") => Ok(Seen::Refused),
            _ => without(["a question"]),
        }
    }

    /// The questions came, and the answers arrived.
    pub fn answered(&self, told: &Told, name: &str) -> Sight {
        if let Some(Err(error)) = &told.answer {
            return Ok(Seen::Error(error["code"].as_i64().unwrap()));
        }
        if is_refused(told) {
            return Ok(Seen::Refused);
        }
        let questions = world::questions(self.server.version, name).concat();
        let mut methods: Vec<&str> = questions.iter().map(|(method, _)| *method).collect();
        let mut asked: Vec<&str> = told.questions.iter().map(|(method, _)| &**method).collect();
        if name == "at_once" {
            methods.sort_unstable();
            asked.sort_unstable();
        }
        same(&asked, &methods)?;
        // Only 2025-11-25 knows the id of a url elicitation.
        for (_, params) in told.questions.iter().filter(|(_, params)| params["mode"] == "url") {
            same(&params["elicitationId"].is_string(), &(self.client.version == V2025_11_25))?;
        }
        let answer = |(method, params): &(&str, Value)| match self.client.mood {
            Mood::Refuses => world::refusal(),
            Mood::Helpful | Mood::Declines => self.client.answer(method, params),
        };
        let answers: Vec<Value> = questions.iter().map(answer).collect();
        same(told.text_block()?, json!(answers).to_string().as_str())
    }
}

/// The server could not ask, and its tool failed for that.
fn is_refused(told: &Told) -> bool {
    let said = told.text_block().is_ok_and(|text| text.starts_with("the client has no"));
    said && told.result().is_ok_and(|result| result["isError"] == true)
}
