//! NATS' own service discovery.

use std::process::Command;

use sidewire::{App, Server};

use crate::util::{Nats, start, watchdog};

fn server() -> Server<()> {
    // What a server with the feature `describe` answers.
    let described =
        r#"{"format":1,"messages":[{"type":1,"name":"Get"},{"type":3,"name":"Set"}],"events":[{"type":9}]}"#;
    let server = Server::builder(()).types(65_536).app(App::new("thing", "1.2.3")).build();
    let mut server = server.expect("a server");
    server.on(1, |(), _request, _reply| Ok(()));
    server.on(sidewire::DESCRIPTION, move |(), _request, reply| {
        reply.write(described);
        Ok(())
    });
    server.topic(9, sidewire::WhenSlow::DropNewest);
    server
}

#[test]
fn a_server_that_describes_itself_is_found_by_those_who_look() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let _running = start(server(), &near);
    let serve = nats.bridge("serve", &near, &[]);
    serve.line_with("types 1,3,65535, events 9");
    let stranger = nats.stranger();
    let ask = |subject: &str| -> serde_json::Value {
        serde_json::from_slice(&stranger.request(subject, "").payload).expect("JSON")
    };
    stranger.request("sw.thing.1", "");
    stranger.request("sw.thing.1", "");
    stranger.request("sw.thing.3", "");
    let ping = ask("$SRV.PING");
    assert_eq!((&ping["name"], &ping["version"]), (&"thing".into(), &"1.2.3".into()));
    assert_eq!(ping["type"], "io.nats.micro.v1.ping_response");
    let id = ping["id"].as_str().expect("an id");
    for subject in ["$SRV.INFO".to_owned(), "$SRV.INFO.thing".into(), format!("$SRV.INFO.thing.{id}")] {
        let info = ask(&subject);
        assert_eq!(info["id"], id);
        assert_eq!(info["metadata"]["sidewire-types"], "1,3,65535");
        assert_eq!(info["endpoints"][1]["subject"], "sw.thing.3");
        assert_eq!(info["endpoints"][1]["queue_group"], "sidewire");
    }
    let stats = ask("$SRV.STATS.thing");
    let counted = |n: usize| {
        (stats["endpoints"][n]["num_requests"].clone(), stats["endpoints"][n]["num_errors"].clone())
    };
    assert_eq!((counted(0), counted(1)), ((2.into(), 0.into()), (1.into(), 1.into())));
    assert!(stats["endpoints"][0]["average_processing_time"].as_u64().is_some_and(|nanos| nanos > 0));
    // The description itself goes through the bridge.
    let (_connect, far) = nats.connect("far", &[]);
    let described = crate::util::client(&far).call(sidewire::DESCRIPTION, "").expect("it describes itself");
    assert!(described.payload().starts_with(b"{\"format\":1"));
}

#[test]
fn one_that_does_not_has_to_be_said() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let mut serve = nats.bridge("serve", &near, &[]);
    serve.line_with("nobody listens");
    assert_eq!(serve.wait().code(), Some(1));
    let _running = start(Server::new(()), &near);
    let mut serve = nats.bridge("serve", &near, &[]);
    serve.line_with("the server does not describe itself: say --types");
    assert_eq!(serve.wait().code(), Some(1));
}

#[test]
fn its_help_teaches_and_usage_errors_say_what_is_expected() {
    let _watchdog = watchdog();
    let bridge = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_sidewire-bridge")).args(arguments).output().expect("it runs");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), text)
    };
    for (arguments, code, part) in [
        (&["--help"][..], 0, "sidewire-bridge serve local:store --nats tls://broker:4222 --app store"),
        (&["serve", "--help"], 0, "--shared"),
        (&["connect", "--help"], 0, "--silence"),
        (&["serve", "unix:/x", "--nats", "nats://127.0.0.1", "--app", "a.b"], 2, "letters, digits, - and _"),
        (
            &["serve", "unix:/x", "--nats", "nats://me:secret@127.0.0.1", "--app", "a"],
            2,
            "no place for secrets",
        ),
        (
            &["serve", "unix:/x", "--nats", "nats://127.0.0.1", "--app", "a", "--types", "8-1"],
            2,
            "as in 1-8,12",
        ),
        (&["connect", "udp:127.0.0.1:0", "--nats", "nats://127.0.0.1", "--app", "a"], 1, "from streams only"),
        (
            &["connect", "unix:/x", "--nats", "nats://192.0.2.1:4222", "--app", "a"],
            1,
            "say tls://192.0.2.1:4222",
        ),
        (
            &["serve", "unix:/x", "--nats", "nats://[2001:db8::1]", "--app", "a"],
            1,
            "say tls://[2001:db8::1]:4222",
        ),
    ] {
        let (status, text) = bridge(arguments);
        assert!(status == Some(code) && text.contains(part), "{arguments:?}: {status:?} {text}");
    }
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let url = format!("nats://{gone}");
    let (status, text) = bridge(&["connect", "unix:/x", "--nats", &url, "--app", "a"]);
    assert!(status == Some(1) && text.contains(&format!("connect to {url}: ")), "{status:?} {text}");
}
