//! Words of others, one by one; whole objects are in tests/migrate.

use super::*;
use proxy::contract::policy::{Check, NoData};
use serde_json::json;

fn wish() -> Wish {
    Wish {
        service: None,
        proxies: 2,
        image: "serin:dev".into(),
        namespace: "default".into(),
    }
}

fn canary(analysis: &Value) -> Done {
    let object = json!({"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "a"},
        "spec": {"targetRef": {"name": "a"}, "analysis": analysis}});
    let mut all = migrated(&object.to_string(), &wish()).unwrap();
    all.pop().unwrap()
}

#[test]
fn a_condition_is_a_limit_or_nothing() {
    for (text, success, limits) in [
        ("result[0] >= 0.95", true, (Some(0.95), None)),
        ("result < 5", true, (None, Some(5.0))),
        ("result[0] >= 0.1", false, (None, Some(0.1))),
        ("result == 0", true, (Some(0.0), Some(0.0))),
        ("len(result) == 0 || result[0] <= 2", true, (None, Some(2.0))),
        ("isNaN(result[0]) || (result[0] > 1)", true, (Some(1.0), None)),
    ] {
        let mut check = Check::named("x");
        assert_eq!(checks::limit(&mut check, text, success), Some(()), "{text}");
        assert_eq!((check.min, check.max), limits, "{text}");
        assert_eq!(check.no_data == NoData::Ignore, text.contains("||"), "{text}");
    }
    for text in [
        "",
        "result",
        "all(result, {# > 1})",
        "result[0] > 1 && result[1] > 1",
        "result == 0",
    ] {
        assert_eq!(checks::limit(&mut Check::named("x"), text, false), None, "{text}");
    }
}

#[test]
fn a_field_that_nobody_knows_is_told() {
    let done = canary(&json!({"interval": "1m", "stepWeight": 10, "teleport": {"to": "mars"}}));
    let lost: Vec<_> = done.losses.iter().map(|l| l.key.as_str()).collect();
    assert!(lost.contains(&"spec.analysis.teleport"), "{lost:?}");
}

#[test]
fn a_name_that_no_server_takes_is_told() {
    for (name, is_told) in [
        ("shop", false),
        ("shop.v2", false),
        ("REPLACE_ME", true),
        ("a..b", true),
        ("-a", true),
    ] {
        let object = json!({"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": name},
            "spec": {"targetRef": {"name": "a"}, "analysis": {"interval": "1m", "stepWeight": 10}}});
        let done = migrated(&object.to_string(), &wish()).unwrap().pop().unwrap();
        assert_eq!(
            done.losses.iter().any(|l| l.key == "metadata.name"),
            is_told,
            "{name}"
        );
    }
}

#[test]
fn what_is_refused_is_left_out_and_told() {
    let done = canary(&json!({"interval": "1m", "stepWeight": 10,
        "webhooks": [{"name": "ask", "type": "confirm-promotion", "url": "https://gate/"}],
        "match": [{"headers": {"user-agent": {"regex": "(?=.*Safari).*"}}}]}));
    let rollout = done.objects.iter().find(|o| o["kind"] == "Rollout").unwrap();
    assert_eq!(rollout["spec"]["gates"], Value::Null);
    let lost: Vec<_> = done.losses.iter().map(|l| l.key.as_str()).collect();
    assert!(lost.contains(&"spec.gates[0].webhook.url"), "{lost:?}");
    assert!(lost.contains(&"spec.analysis.match[0]"), "{lost:?}");
}

#[test]
fn no_name_or_value_ends_a_comment() {
    let text = "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: \"a\\nkind: Secret\"}\nspec: {targetRef: {kind: \"Deployment\", name: \"x\\ny: z\"}, provider: \"a\\n---\\nb: c\"}\n";
    let all = migrated(text, &wish()).unwrap();
    let page = page(&all).unwrap();
    let (comments, _) = page.split_once("\n---\n").unwrap();
    assert!(comments.lines().all(|l| l.starts_with('#')), "{comments}");
}

#[test]
fn odd_values_are_no_panic() {
    for value in [
        json!(null),
        json!(-1),
        json!(1e300),
        json!("x"),
        json!([]),
        json!({}),
        json!([[{}]]),
        json!(true),
    ] {
        for key in [
            "interval",
            "threshold",
            "maxWeight",
            "stepWeight",
            "stepWeights",
            "iterations",
            "match",
            "metrics",
            "webhooks",
            "mirror",
            "mirrorWeight",
        ] {
            canary(&json!({ key: value }));
            canary(&json!({ "mirror": true, "stepWeight": 0.00001, key: value }));
        }
        for key in ["steps", "trafficRouting", "analysis", "stableService"] {
            for spec in [
                json!({"strategy": {"canary": {key: value}}}),
                json!({"strategy": value, "template": value, "workloadRef": value}),
                json!({"strategy": {"canary": {"steps": [value, {"setWeight": value}, {"pause": value}, {"pause": {"duration": value}}, {"setHeaderRoute": value}, {"setMirrorRoute": value}, {"analysis": value}]}}}),
            ] {
                let object = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "a"}, "spec": spec});
                migrated(&object.to_string(), &wish()).unwrap();
            }
        }
    }
    for text in [
        "",
        "a: b",
        "[",
        "- 1",
        "kind: Rollout\napiVersion: serin.dev/v1alpha1\n",
    ] {
        assert!(migrated(text, &wish()).is_err(), "{text}");
    }
}
