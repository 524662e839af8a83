//! Where traces go and which of them: the section `[telemetry]`, and the variables that
//! OpenTelemetry has for it.

use std::time::Duration;

use crate::config::Telemetry;

/// The path of traces behind the address of a collector (OTLP/HTTP).
const PATH: &str = "/v1/traces";
/// The share of all traces, as a bound on the low 63 bits of their ids.
const ALL: u64 = 1 << 63;

/// The settings of traces, all of them known.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// The address that batches are posted to.
    pub url: String,
    pub headers: Vec<(String, String)>,
    /// The name of the service, unless the environment has one.
    pub service: String,
    /// Traces that begin here are sampled where the low 63 bits of their ids are below it.
    pub sampled_below: u64,
    pub errors: bool,
    pub slow: Duration,
    pub stage_min: Duration,
    pub baggage: Vec<String>,
    pub spans_max: usize,
    pub queue_max: usize,
    pub timeout: Duration,
}

impl TraceSettings {
    /// Reads them; none where there is no address to export to, or the environment says that
    /// there shall be no traces.
    pub fn of(config: &Telemetry, environment: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let variable = |name: &str| environment(name).filter(|text| !text.trim().is_empty());
        let is_off = variable("OTEL_SDK_DISABLED")
            .is_some_and(|text| text.trim().eq_ignore_ascii_case("true"));
        if is_off {
            return None;
        }
        let joined = |base: &str| format!("{}{PATH}", base.trim().trim_end_matches('/'));
        let of_environment = || {
            if variable("OTEL_TRACES_EXPORTER").is_some_and(|text| text.trim() == "none") {
                return None;
            }
            let own = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
            let own = own.map(|url| url.trim().to_owned());
            own.or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| joined(&base)))
        };
        let url = config.endpoint.as_deref().map(joined).or_else(of_environment)?;
        let protocol = variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            .or_else(|| variable("OTEL_EXPORTER_OTLP_PROTOCOL"))
            .filter(|protocol| protocol.trim() != "http/protobuf");
        if let Some(protocol) = protocol {
            tracing::warn!(
                protocol = protocol.escape_debug().to_string(),
                "traces are exported as http/protobuf all the same: `OTEL_EXPORTER_OTLP_PROTOCOL`"
            );
        }
        let headers = config.headers.iter();
        let headers = headers.map(|(name, value)| (name.clone(), value.expose().to_owned()));
        let share = config.sample.map(|share| share.of(ALL));
        Some(Self {
            url,
            headers: headers.collect(),
            service: config.service.clone(),
            sampled_below: share.unwrap_or_else(|| sampler(&variable)),
            errors: config.errors,
            slow: config.slow,
            stage_min: config.stage_min,
            baggage: config.baggage.clone(),
            spans_max: config.spans_max,
            queue_max: config.queue_max,
            timeout: config.timeout,
        })
    }
}

/// The share that the environment says. All samplers are taken for their variants that follow a
/// trace's parent.
fn sampler(variable: &dyn Fn(&str) -> Option<String>) -> u64 {
    let name = variable("OTEL_TRACES_SAMPLER").unwrap_or_default();
    let argument = || variable("OTEL_TRACES_SAMPLER_ARG")?.trim().parse::<f64>().ok();
    match name.trim().trim_start_matches("parentbased_") {
        "always_off" => 0,
        "traceidratio" => {
            let share = argument().filter(|share| (0.0..=1.0).contains(share)).unwrap_or(1.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1")]
            let millionths = (share * 1e6).round() as u64;
            ALL / 1_000_000 * millionths.min(1_000_000)
                + u64::from(millionths == 1_000_000) * (ALL % 1_000_000)
        }
        _ => ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn settings(keys: &str, variables: &[(&str, &str)]) -> Option<TraceSettings> {
        let text = format!(
            "[routes.\"/mcp\"]\nupstreams = [\"*\"]\n[telemetry]\n{keys}\n\
             [upstreams.a]\nurl = \"http://127.0.0.1:9/\"\n"
        );
        let config = config::parse("routes.toml", &text, &|_| None).unwrap();
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        TraceSettings::of(&config.telemetry, &variable)
    }

    #[test]
    fn the_address_is_the_files_or_the_environments() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
        let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://d:1/t");
        let file = "endpoint = \"http://e:2\"";
        for (keys, variables, want) in [
            ("", vec![], None),
            ("", vec![base], Some("http://c:4318/v1/traces")),
            ("", vec![base, whole], Some("http://d:1/t")),
            (file, vec![base, whole], Some("http://e:2/v1/traces")),
            ("endpoint = \"http://e:2/otlp/\"", vec![], Some("http://e:2/otlp/v1/traces")),
            ("", vec![base, ("OTEL_TRACES_EXPORTER", "none")], None),
            ("", vec![base, ("OTEL_TRACES_EXPORTER", "otlp")], Some("http://c:4318/v1/traces")),
            (file, vec![("OTEL_SDK_DISABLED", "TRUE")], None),
            (file, vec![("OTEL_SDK_DISABLED", "false")], Some("http://e:2/v1/traces")),
            ("", vec![("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], None),
        ] {
            let settings = settings(keys, &variables);
            assert_eq!(settings.map(|it| it.url).as_deref(), want, "{keys} {variables:?}");
        }
    }

    #[test]
    fn the_share_is_the_files_or_the_environments() {
        let sampler = |name| ("OTEL_TRACES_SAMPLER", name);
        let half = ("OTEL_TRACES_SAMPLER_ARG", "0.5");
        for (keys, variables, want) in [
            ("", vec![], ALL),
            ("sample = 0", vec![sampler("always_on")], 0),
            ("sample = 0.25", vec![], ALL / 4),
            ("sample = 1", vec![sampler("always_off")], ALL),
            ("", vec![sampler("always_off")], 0),
            ("", vec![sampler("parentbased_always_off")], 0),
            ("", vec![sampler("parentbased_always_on"), half], ALL),
            ("", vec![sampler("traceidratio")], ALL),
            ("", vec![sampler("unheard_of"), half], ALL),
            ("", vec![sampler("traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "-1")], ALL),
            ("", vec![sampler("traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "nan")], ALL),
            ("", vec![sampler("traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")], 0),
        ] {
            let keys = format!("endpoint = \"http://e:2\"\n{keys}");
            let share = settings(&keys, &variables).unwrap().sampled_below;
            assert_eq!(share, want, "{keys} {variables:?}");
        }
        let keys = "endpoint = \"http://e:2\"";
        let share = settings(keys, &[sampler("parentbased_traceidratio"), half]).unwrap();
        assert!(share.sampled_below.abs_diff(ALL / 2) < ALL / 1_000_000);
    }
}
