//! `sidewire describe`, calls by name, and the example whose server describes itself.

use serde::{Deserialize, Serialize};
use sidewire::{DESCRIPTION, Server};

use crate::getset::example;
#[cfg(unix)]
use crate::stage::source;
use crate::stage::{Outcome, Stage, Started};
use crate::util::{Process, all_streams, start, usual, watchdog};

/// The example's server, on these endpoints.
fn notes(stage: &Stage, endpoints: &[String]) -> Process {
    let args = ["serve"].into_iter().chain(endpoints.iter().map(String::as_str));
    Process::start(&mut stage.command(example("describe"), args), endpoints.len())
}

#[test]
fn what_a_server_says_of_itself_is_shown() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let server = notes(&stage, &stage.all_streams());
    for endpoint in server.endpoints.iter().map(ToString::to_string) {
        let page = stage.run(["describe", &endpoint]).expect(0).text();
        let lines: Vec<_> = page.lines().map(str::trim).collect();
        assert_eq!(lines[0], "org.example.notes 1.0");
        assert!(lines[1].len() == "contract ".len() + 64, "{page}");
        for line in [
            "1  Add -> uint32, error AddError (json): Keeps a note, and says which number it has.",
            "2  Find -> [Note] (json): All notes that contain a text.",
            "1  Added (json): There is a new note.",
            "Add: A note to be kept.",
            "text: text: What it says.",
            "tags?: [text]: What it is about.",
            "tag?: text?: Which tag it has to have, if any.",
            "\"Empty\"",
            "{ TooLong: { most: uint } }",
        ] {
            assert!(lines.contains(&line), "no '{line}' in {page}");
        }
        let json = stage.run(["describe", &endpoint, "--json"]).expect(0);
        let document: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
        assert_eq!(document["messages"][1]["name"], "Find");
    }
}

#[test]
fn messages_are_called_by_their_names() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    for endpoint in stage.all_streams() {
        let server = notes(&stage, &[endpoint]);
        let endpoint = server.endpoints[0].to_string();
        let call = |args: &[&str]| stage.run([&["call", &endpoint], args].concat());
        let first: u32 =
            call(&["Add", r#"{"text": "buy tea"}"#]).expect(0).text().trim().parse().expect("a number");
        let line = format!("[{{\"number\":{first},\"text\":\"buy tea\",\"tags\":[]}}]\n");
        call(&["Find", r#"{"text": "tea", "tag": null}"#]).expect(0).prints(&line);
        call(&["2", r#"{"text": "tea"}"#]).expect(0).prints(line.trim_end());
        call(&["--stream", "Find", r#"{"text": "tea"}"#]).expect(0).prints(&line);
        let mut command = stage.sidewire(["call", &endpoint, "Find", "-"]);
        Started::new(&mut command, br#"{"text": "none"}"#).finish().expect(0).prints("[]\n");
        call(&["Add", r#"{"text": ""}"#]).expect(1).prints("\"Empty\"\n").mentions("application error (1)");
        call(&["Add"]).expect(1).prints("").mentions("missing field `text`");
        call(&["Add", "tea"]).expect(2).prints("").mentions("what is to be sent to Add is no JSON");
        call(&["Find", r#"{"text": 5}"#]).expect(1).prints("").mentions("in `text`");
        call(&["Lose"]).expect(2).prints("").mentions("there is no message Lose; there are: Add, Find");
        let find = Started::new(&mut stage.command(example("describe"), ["find", "tea", &endpoint]), b"");
        find.finish().expect(0).prints(format!("{first}: buy tea\n"));
    }
}

#[test]
fn others_do_not() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.verified_streams(), &[]);
    for endpoint in server.endpoints.iter().map(ToString::to_string) {
        let lacking =
            |outcome: Outcome| outcome.expect(1).prints("").mentions("this server does not describe itself");
        lacking(stage.run(["describe", &endpoint]));
        lacking(stage.run(["call", &endpoint, "Get"]));
    }
    let nobody = crate::util::unique("nobody");
    stage.run(["describe", &format!("local:{nobody}")]).expect(3).prints("").mentions(&nobody);
    stage.run(["describe", "nonsense"]).expect(2).prints("");
}

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct Count {
    upto: u32,
}

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct Now;

sidewire::messages! {
    contract Binary;
    1 => Count -> u32;
}

sidewire::messages! {
    contract Texts;
    encoding sidewire::typed::Json;
    2 => Now -> String, progress Vec<String>;
}

/// Without data, and in parts; and what can't be called by its name.
#[test]
fn by_name_it_is_json_or_nothing() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let mut server = Server::new(());
    server.serve::<Count>(|(), count| Ok(count.upto));
    server.serve_later::<Now>(|(), Now, _, mut responder| {
        std::thread::spawn(move || {
            let _ = responder.progress(vec!["a\n\\".into()]);
            responder.reply("\u{9b}2J now".into());
        });
    });
    server.describe::<(Binary, Texts)>().expect("described");
    let endpoint = if cfg!(unix) { &stage.all_streams()[0] } else { &all_streams()[0].to_string() };
    let (running, bound) = start(server, [usual(&endpoint.parse().expect("an endpoint"))]);
    let endpoint = bound[0].to_string();
    stage.run(["call", &endpoint, "Now"]).expect(0).prints("\"\\u009b2J now\"\n");
    let lines = "[\"a\\n\\\\\"]\n\"\\u009b2J now\"\n";
    stage.run(["call", &endpoint, "Now", "--stream"]).expect(0).prints(lines);
    let outcome = stage.run(["call", &endpoint, "Count", "{\"upto\": 3}"]).expect(2).prints("");
    outcome.mentions("Count does not travel as JSON but as postcard").mentions("by its number, 1");
    stage.run(["call", &endpoint, "1", "\u{3}"]).expect(0).prints("\u{3}");
    running.stop().expect("the server ends well");
}

#[test]
fn a_hostile_description_is_none() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for (document, why) in [
        ("[".repeat(1 << 20), "it is no JSON"),
        ("\u{1b}[2J".into(), "it is no JSON"),
        (" ".repeat(5 << 20), "bytes"),
        ("{}".into(), "of a format that this tool does not know"),
    ] {
        let mut server = Server::builder(document).types(65_536).build().expect("a server");
        server.on(DESCRIPTION, |document, _, reply| reply.try_write(&**document));
        let endpoint = if cfg!(unix) { &stage.all_streams()[0] } else { &all_streams()[0].to_string() };
        let (running, bound) = start(server, [usual(&endpoint.parse().expect("an endpoint"))]);
        let endpoint = bound[0].to_string();
        let outcome = stage.run(["describe", &endpoint]).expect(1).prints("").mentions(why);
        assert!(!outcome.stderr.contains('\u{1b}'), "{outcome}");
        stage.run(["call", &endpoint, "Any"]).expect(1).prints("").mentions(why);
        running.stop().expect("the server ends well");
    }
}

/// It reads the description, and makes typed calls.
#[cfg(unix)] // As the others in Python: its peers on Windows are not to be had under Wine.
#[test]
fn a_python_script_without_any_library_is_a_client() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let server = notes(&stage, &[stage.unix("notes.sock"), "tcp:127.0.0.1:0".into()]);
    for (number, endpoint) in server.endpoints.iter().enumerate() {
        let endpoint = endpoint.to_string();
        let description = stage.run(["describe", &endpoint, "--json"]).expect(0).stdout;
        let script = source("notes.py").display().to_string();
        let mut python = stage.command("python3", ["-I", "-S", &script, &endpoint]);
        let outcome = Started::new(&mut python, &description).finish().expect(0);
        assert_eq!(outcome.text(), format!("note {}\n", number + 1));
    }
}
