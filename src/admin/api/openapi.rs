//! The description of the API, in `OpenAPI` 3.1.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Endpoint, PREFIX, UPSTREAM, answers::ENDPOINTS};

/// The path of the description, after the prefix.
pub const PATH: &str = "openapi.json";

/// Makes the description of all endpoints, and of itself.
pub fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for endpoint in &ENDPOINTS {
        let schema = (endpoint.schema)(&mut generator).to_value();
        let path = format!("{PREFIX}{}", endpoint.path);
        paths.insert(path, json!({ "get": operation(endpoint, &schema) }));
    }
    let own = json!({ "type": "object" });
    let answers = answered("This description", &own);
    let operation = json!({ "summary": "This description", "responses": answers });
    paths.insert(format!("{PREFIX}{PATH}"), json!({ "get": operation }));
    let mut schemas = generator.take_definitions(true);
    let error = json!({
        "type": "object",
        "properties": { "error": { "type": "string", "description": "What is wrong, for people" } },
        "required": ["error"],
    });
    schemas.insert("Failure".to_owned(), error);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate, for operators",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Reads the state of a gate, at its listener for operators (`admin`). \
                            Only programs on the gate's own machine are answered.",
        },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn operation(endpoint: &Endpoint, schema: &Value) -> Value {
    let mut responses = answered(endpoint.summary, schema);
    let mut operation = Map::new();
    operation.insert("summary".to_owned(), endpoint.summary.into());
    if endpoint.path.contains(UPSTREAM) {
        let unknown = failure("There is no such upstream");
        responses.insert("404".to_owned(), unknown);
        let name = json!({
            "name": "upstream", "in": "path", "required": true, "schema": { "type": "string" },
            "description": "The name that the configuration gives the upstream",
        });
        operation.insert("parameters".to_owned(), json!([name]));
    }
    operation.insert("responses".to_owned(), responses.into());
    operation.into()
}

/// The answers that each operation has.
fn answered(what: &str, schema: &Value) -> Map<String, Value> {
    let content = json!({ "application/json": { "schema": schema } });
    let found = json!({ "description": what, "content": content });
    let mut all = Map::new();
    all.insert("200".to_owned(), found);
    all.insert("403".to_owned(), failure("It is asked from another machine"));
    all
}

fn failure(what: &str) -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Failure" });
    json!({ "description": what, "content": { "application/json": { "schema": schema } } })
}
