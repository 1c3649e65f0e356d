//! The description of the data plane, OpenAPI 3.1 (<https://spec.openapis.org/oas/v3.1.1>). It is
//! written by hand and held against the code here, and against a running proxy by the system tests.

/// What `GET /openapi.json` answers. Nothing in it is about one deployment.
pub(super) const DOCUMENT: &[u8] = include_bytes!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::Method;
    use serde_json::{Value, json};
    use signing_core::Reason;

    use super::super::route::route;
    use super::super::{dialects, untrusted_input};
    use super::DOCUMENT;

    fn document() -> Value {
        serde_json::from_slice(DOCUMENT).unwrap()
    }

    fn keys(value: &Value) -> BTreeSet<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn its_paths_and_methods_are_those_of_the_routes() {
        let document = document();
        let paths = keys(&document["paths"]);
        for path in &paths {
            let (_, method) = route(&path.replace("{kid}", "k")).unwrap();
            let methods = keys(&document["paths"][path]);
            assert_eq!(
                methods,
                BTreeSet::from([method.as_str().to_lowercase().as_str()]),
                "{path}"
            );
        }
        // What else the routes take, read from their source: a path that is left out is found.
        let source = include_str!("route.rs").split("#[cfg(test)]").next().unwrap();
        let quoted = source.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/'));
        let known =
            quoted.map(|path| if path == "/publicKeys/" { "/publicKeys/{kid}" } else { path });
        assert_eq!(known.collect::<BTreeSet<_>>(), paths);
        assert_eq!(route("/openapi.json").unwrap().1, Method::GET);
    }

    #[test]
    fn its_refusals_are_those_of_the_code_each_under_its_status() {
        let document = document();
        let listed = &document["components"]["schemas"]["Problem"]["properties"]["reason"]["enum"];
        let words: Vec<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(*listed, json!(words));
        let responses = &document["components"]["responses"];
        for reason in Reason::ALL {
            let told = &responses[format!("Refused{}", reason.status())];
            let said = format!("`{}`: {}.", reason.word(), reason.title());
            assert!(told["description"].as_str().unwrap().contains(&said), "{said}");
            let waits = told["headers"].get("Retry-After").is_some();
            assert_eq!(waits, reason.retry_after_s().is_some(), "{said}");
        }
    }

    #[test]
    fn every_example_of_a_request_is_taken_and_every_field_is_known() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let example = |name: &str| schemas[name]["examples"][0].to_string();
        let json = Some("application/json");
        for (path, name) in [("/v1/sign", "Sign"), ("/sign", "DialectSign")] {
            untrusted_input::sign_request(path, json, example(name).as_bytes()).unwrap();
        }
        for (path, name) in [("/v1/verify", "Verify"), ("/verify", "DialectVerify")] {
            dialects::read_verify(path, json, example(name).as_bytes()).unwrap();
        }
        // The native surface refuses what it does not know.
        let is_known = |path: &str, field: &str| {
            let body = json!({ field: "" }).to_string();
            let read = if path == "/v1/sign" {
                untrusted_input::sign_request(path, json, body.as_bytes()).map(drop)
            } else {
                dialects::read_verify(path, json, body.as_bytes()).map(drop)
            };
            !read.is_err_and(|refusal| refusal.detail.contains("unknown field"))
        };
        for (path, name) in [("/v1/sign", "Sign"), ("/v1/verify", "Verify")] {
            assert!(!is_known(path, "other"));
            for field in keys(&schemas[name]["properties"]) {
                assert!(is_known(path, field), "{path} {field}");
            }
        }
    }
}
