//! Brokers that want to know who comes, and TLS.

use std::process::Command;
use std::sync::{Arc, Mutex};

use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use sidewire::{Connect, Listen, Server, Token};

use crate::util::{Nats, PATIENCE, Process, client, start, watchdog, write};

fn server() -> Server<()> {
    keeping(Arc::default())
}

/// Keeps what it was asked.
fn keeping(asked: Arc<Mutex<Vec<Vec<u8>>>>) -> Server<()> {
    let mut server = Server::new(());
    server.on(1, move |(), request, reply| {
        asked.lock().expect("whole").push(request.payload().to_vec());
        reply.write(request.payload());
        Ok(())
    });
    server
}

/// Both bridges with these options carry a call, and say no secret.
fn carries(nats: &Nats, url: &str, options: &[&str], secret: &str) {
    let near = nats.endpoint("near");
    let running = start(server(), &near);
    let serve = nats.talkative(url, "serve", &near, &[&["--types", "1"], options].concat());
    until_it_says(&serve, "serving thing at ", secret);
    let far = nats.endpoint("far");
    let connect = nats.talkative(url, "connect", &far, options);
    until_it_says(&connect, "listening ", secret);
    assert_eq!(client(&far).call(1, "hello").expect("an echo").payload(), b"hello");
    for bridge in [serve, connect] {
        bridge.terminate();
        let mut bridge = bridge;
        assert_eq!(bridge.wait().code(), Some(0));
        bridge.lines.iter().for_each(|line| assert!(!line.contains(secret), "{line}"));
    }
    running.stop().expect("it ends");
}

/// A bridge with these options is turned away, and says no secret.
fn is_refused(nats: &Nats, url: &str, options: &[&str], secret: &str) {
    let mut connect = nats.talkative(url, "connect", &nats.endpoint("never"), options);
    until_it_says(&connect, "sidewire-bridge: connect to ", secret);
    assert_eq!(connect.wait().code(), Some(1));
    connect.lines.iter().for_each(|line| assert!(!line.contains(secret), "{line}"));
}

/// And says this in no line before.
fn until_it_says(bridge: &Process, text: &str, secret: &str) {
    loop {
        let line = bridge.lines.recv_timeout(PATIENCE).expect("a line with it");
        assert!(!line.contains(secret), "{line}");
        if line.contains(text) {
            return;
        }
    }
}

#[test]
fn a_user_with_a_password() {
    let _watchdog = watchdog();
    let nats = Nats::with("authorization { user: me, password: hunter2 }");
    let good = write(&nats.path("good"), "hunter2\n");
    let bad = write(&nats.path("bad"), "hunter22\n");
    carries(&nats, &nats.url(), &["--user", "me", "--password-file", &good], "hunter2");
    is_refused(&nats, &nats.url(), &["--user", "me", "--password-file", &bad], "hunter2");
    is_refused(&nats, &nats.url(), &[], "hunter2");
}

#[test]
fn an_nkey() {
    let _watchdog = watchdog();
    let key = nkeys::KeyPair::new_user();
    let nats = Nats::with(&format!("authorization {{ users: [ {{ nkey: {} }} ] }}", key.public_key()));
    let seed = key.seed().expect("a seed");
    let good = write(&nats.path("good"), &seed);
    carries(&nats, &nats.url(), &["--nkey-file", &good], &seed);
    let seed = nkeys::KeyPair::new_user().seed().expect("a seed");
    let bad = write(&nats.path("bad"), &seed);
    is_refused(&nats, &nats.url(), &["--nkey-file", &bad], &seed);
}

/// As nsc writes them: an operator signs an account, and that a user.
#[test]
fn credentials() {
    let _watchdog = watchdog();
    let (operator, account) = (nkeys::KeyPair::new_operator(), nkeys::KeyPair::new_account());
    let everything = json!({ "subs": -1, "data": -1, "payload": -1, "conn": -1, "imports": -1, "exports": -1, "wildcards": true });
    let nats = Nats::with(&format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}",
        signed(&operator, &operator, json!({ "type": "operator", "version": 2 })),
        account.public_key(),
        signed(&operator, &account, json!({ "type": "account", "version": 2, "limits": everything })),
    ));
    let user = nkeys::KeyPair::new_user();
    let jwt = signed(
        &account,
        &user,
        json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 }),
    );
    let file = |name: &str, seed: &str| {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        write(&nats.path(name), &text)
    };
    let seed = user.seed().expect("a seed");
    carries(&nats, &nats.url(), &["--creds-file", &file("good", &seed)], &seed);
    let seed = nkeys::KeyPair::new_user().seed().expect("a seed");
    is_refused(&nats, &nats.url(), &["--creds-file", &file("bad", &seed)], &seed);
}

/// A JWT of NATS.
fn signed(by: &nkeys::KeyPair, of: &nkeys::KeyPair, claims: serde_json::Value) -> String {
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let name = of.public_key();
    let body =
        json!({ "jti": name, "iat": 0, "iss": by.public_key(), "name": name, "sub": name, "nats": claims });
    let text = format!("{}.{}", base64(header.to_string().as_bytes()), base64(body.to_string().as_bytes()));
    let signature = by.sign(text.as_bytes()).expect("a signature");
    format!("{text}.{}", base64(&signature))
}

/// As URLs have it, without padding.
fn base64(bytes: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().zip([16, 8, 0]).fold(0, |bits, (byte, shift)| bits | u32::from(*byte) << shift);
        for shift in [18, 12, 6, 0].into_iter().take(chunk.len() + 1) {
            text.push(digits[(bits >> shift) as usize & 63] as char);
        }
    }
    text
}

/// The local side of either bridge keeps the library's rules.
#[test]
fn who_may_at_the_local_sides() {
    use std::os::unix::fs::PermissionsExt;
    let _watchdog = watchdog();
    let nats = Nats::start();
    let (near, far) = (nats.endpoint("near"), nats.endpoint("far"));
    let [key, other_key] = [("key", "01"), ("other", "02")].map(|(name, byte)| {
        let file = write(&nats.path(name), &byte.repeat(16));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a private file");
        file
    });
    let mut local = server();
    local.listen(Listen::on(near.clone()).expect("an endpoint").token(Token::file(&key))).expect("listen");
    let _running = local.spawn().expect("spawn");
    let types = ["--types", "1"];
    for wrong in [&types[..], &[&types[..], &["--token-file", &other_key]].concat()] {
        let mut serve = nats.bridge("serve", &near, wrong);
        serve.line_with("token");
        assert_eq!(serve.wait().code(), Some(1));
    }
    let serve = nats.bridge("serve", &near, &[&types[..], &["--token-file", &key]].concat());
    serve.line_with("serving thing at ");
    // At the other end one that is not there is made.
    let made = nats.path("made").display().to_string();
    let connect = nats.bridge("connect", &far, &["--token-file", &made]);
    connect.line_with("listening ");
    let token = |file: &str| Connect::to(&far).expect("an endpoint").token(Token::file(file)).open();
    assert!(Connect::to(&far).expect("an endpoint").open().is_err());
    assert!(token(&key).is_err());
    assert_eq!(token(&made).expect("a client").call(1, "hello").expect("an echo").payload(), b"hello");
    // Other users reach a socket only if that is said.
    for (who, mode) in [("same-user", 0o600), ("anyone", 0o666)] {
        let _connect = nats.connect(who, &["--access", who]);
        let file = std::fs::metadata(nats.path(who)).expect("a socket");
        assert_eq!(file.permissions().mode() & 0o777, mode);
    }
}

/// As the README gives them: each side can do its part, and not the other's.
#[test]
fn rights_of_a_server_and_of_its_clients() {
    let _watchdog = watchdog();
    let readme = include_str!("../../README.md");
    let rights =
        readme.split("```text").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let nats = Nats::with(&rights.replace("sw.store", "sw.thing").replace('…', "hunter2"));
    let file = write(&nats.path("password"), "hunter2");
    let [server_side, client_side] =
        ["server", "client"].map(|user| ["--user", user, "--password-file", &file]);
    let near = nats.endpoint("near");
    let _running = start(server(), &near);
    let serve = nats.bridge("serve", &near, &[&["--types", "1"], &server_side[..]].concat());
    serve.line_with("serving thing at ");
    let far = nats.endpoint("far");
    let connect = nats.bridge("connect", &far, &client_side);
    connect.line_with("listening ");
    let client = client(&far);
    assert_eq!(client.call(1, "hello").expect("an echo").payload(), b"hello");
    // A client that would serve is told that it may not, and why.
    let other = nats.endpoint("other");
    let _other = start(server(), &other);
    let mut refused =
        nats.bridge("serve", &other, &[&["--types", "1", "--shared"], &client_side[..]].concat());
    refused.line_with("the broker says: Permissions Violation for Subscription to \"sw.thing.owner.claim\"");
    assert_eq!(refused.wait().code(), Some(1));
    assert_eq!(client.call(1, "still").expect("an echo").payload(), b"still");
}

/// A bridge that could not hear something does not say that it is there, but which right it lacks.
#[test]
fn a_right_that_is_missing_is_named() {
    let _watchdog = watchdog();
    let needed = [
        ("serve", "sw.thing.*", "sw.thing.*"),
        ("serve", "sw.thing.at.>", "sw.thing.at."),
        ("serve", "sw.thing.owner.*", "sw.thing.owner.claim"),
        ("serve", "$SRV.>", "$SRV."),
        ("connect", "_INBOX.>", "_INBOX."),
        ("connect", "sw.thing.ev.*", "sw.thing.ev.*"),
    ];
    let users = needed.iter().enumerate().map(|(n, (_, denied, _))| {
        let rights = format!("subscribe: {{ allow: [\">\"], deny: [\"{denied}\"] }}");
        format!("{{ user: user{n}, password: hunter2, permissions: {{ {rights} }} }}\n")
    });
    let nats = Nats::with(&format!("authorization: {{ users: [ {} ] }}", users.collect::<String>()));
    let file = write(&nats.path("password"), "hunter2");
    let near = nats.endpoint("near");
    let _running = start(server(), &near);
    for (n, (command, _, named)) in needed.iter().enumerate() {
        let user = format!("user{n}");
        let options = ["--user", &user, "--password-file", &file];
        let (endpoint, types) = match *command {
            "serve" => (near.clone(), &["--types", "1"][..]),
            _ => (nats.endpoint("far"), &[][..]),
        };
        let mut bridge = nats.bridge(command, &endpoint, &[types, &options].concat());
        assert_eq!(bridge.wait().code(), Some(1), "{command} without {named}");
        let said: Vec<String> = bridge.lines.iter().collect();
        let names = |line: &&String| {
            line.contains("Permissions Violation for Subscription to \"") && line.contains(named)
        };
        let why = said.iter().filter(|line| line.starts_with("sidewire-bridge: "));
        assert_eq!(why.filter(names).count(), 1, "{command} without {named}: {said:#?}");
        assert!(
            !said.iter().any(|line| line.starts_with("serving ") || line.starts_with("listening ")),
            "{said:#?}"
        );
    }
}

/// A client that may call does not have the server's bridge say what only that may say.
#[test]
fn an_answer_goes_to_no_subject_that_means_something() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let (near, asked) = (nats.endpoint("near"), Arc::new(Mutex::new(Vec::new())));
    let _running = start(keeping(Arc::clone(&asked)), &near);
    let mut serve = nats.serve(&near, &[]);
    let stranger = nats.stranger();
    let mut forged =
        stranger.runtime.block_on(stranger.client.subscribe("sw.thing.ev.*")).expect("a subscription");
    stranger.settle();
    let claim = "serves alone 0 1";
    for (subject, reply, payload) in [
        ("sw.thing.1", "sw.thing.ev.50", "forged"),
        ("sw.thing.1", "sw.thing.owner.claim", claim),
        ("sw.thing.1", "$SRV.PING", "forged"),
        ("sw.thing.99", "sw.thing.ev.50", "no such type"),
        ("$SRV.PING", "sw.thing.ev.50", ""),
    ] {
        let sent = stranger.client.publish_with_reply(subject, reply, payload.into());
        stranger.runtime.block_on(sent).expect("it is sent");
    }
    // What comes behind all that, in its order, is answered.
    assert_eq!(stranger.request("sw.thing.1", "honest").payload, "honest");
    stranger.request("$SRV.PING", "");
    assert_eq!(*asked.lock().expect("whole"), [b"honest"]);
    assert!(forged.next().now_or_never().is_none(), "an event was forged");
    assert!(serve.ended().is_none());
}

/// One broker that asks for a certificate, which has signed itself, and so have the bridges.
#[test]
fn tls_both_ways() {
    let _watchdog = watchdog();
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = |name: &str| {
        let files =
            ["pem", "key"].map(|what| folder.path().join(name).with_extension(what).display().to_string());
        let [pem, key] = &files;
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-out", pem, "-keyout", key]);
        let output = openssl.output().expect("openssl");
        assert!(output.status.success(), "{output:?}");
        files
    };
    let ([broker, broker_key], [ours, our_key]) = (certificate("broker"), certificate("ours"));
    let nats = Nats::with(&format!(
        "tls {{ cert_file: \"{broker}\", key_file: \"{broker_key}\", ca_file: \"{ours}\", verify: true }}"
    ));
    let url = nats.url().replace("nats://", "tls://");
    let us = ["--tls-cert", &ours, "--tls-key", &our_key];
    let key = std::fs::read_to_string(&our_key).expect("a key").lines().nth(1).expect("its bytes").to_owned();
    carries(&nats, &url, &[&["--tls-ca", &broker][..], &us].concat(), &key);
    is_refused(&nats, &url, &us, &key);
    let wrong = ["--tls-ca", &ours, "--tls-cert", &broker, "--tls-key", &broker_key];
    is_refused(&nats, &url, &wrong, &key);
    // Who asks for TLS does not go on without.
    drop(nats);
    let nats = Nats::start();
    is_refused(&nats, &nats.url().replace("nats://", "tls://"), &[], &key);
    is_refused(&nats, &nats.url(), &["--tls-ca", &broker], &key);
}
