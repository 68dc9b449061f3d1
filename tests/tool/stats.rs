//! `sidewire stats`: what it shows.

use crate::stage::Stage;
use crate::util::{unique, watchdog};

#[test]
fn it_shows_what_the_server_has_done() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.verified_streams()[..1], &[]);
    let endpoint = server.endpoints[0].to_string();
    for _ in 0..3 {
        stage.run(["call", &endpoint, "4", "hello"]).expect(0);
    }
    stage.run(["call", &endpoint, "9"]).expect(1);
    let json = stage.run(["stats", &endpoint, "--json"]).expect(0);
    let text = json.text();
    let object: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(object["requests_by_type"], serde_json::json!({ "4": 3, "5": 1, "9": 1 }), "{text}");
    assert_eq!(object["failures"], serde_json::json!([{ "type": 9, "rc": -2, "count": 1 }]));
    assert_eq!((&object["accepted"], &object["failed"]), (&5.into(), &1.into()));
    let users = object["users"].as_array().expect("rows");
    // The clients before may not be gone yet.
    assert!(users.len() == 1 && users[0]["connections"].as_u64() >= Some(1), "{text}");
    assert!(users[0]["who"].as_str().is_some_and(|who| !who.is_empty()), "{text}");
    assert_eq!(object["limits"], serde_json::json!({}));
    // The one that asks is not through yet.
    assert_eq!(object["handling_us"]["count"], 4);
    let bytes = ["bytes_received", "bytes_sent"].map(|name| object[name].as_u64().expect("a number"));
    assert!(bytes.iter().all(|bytes| *bytes > 4 * 60), "{text}");
    let readable = stage.run(["stats", &endpoint]).expect(0).text();
    let line = |name: &str| readable.lines().find(|line| line.starts_with(name)).expect("a line").to_owned();
    assert_eq!(line("requests by type").split_once("  ").expect("columns").1.trim(), "4: 3, 5: 2, 9: 1");
    assert_eq!(line("slow handlers").split_whitespace().last(), Some("0"));
}

#[test]
fn its_status_says_what_went_wrong() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    stage.run(["stats", &format!("local:{}", unique("nobody"))]).expect(3);
    stage.run(["stats", "nonsense"]).expect(2);
    let server = stage.serve(&stage.verified_streams()[..1], &[]);
    let endpoint = server.endpoints[0].to_string();
    stage.run(["stats", &endpoint, "--type", "9"]).expect(1).mentions("no handler");
    stage.run(["stats", &endpoint, "--type", "1"]).expect(1).mentions("not answered with a JSON object");
}
