//! A helper in another language, from the text of the protocol alone.

use std::process::Command;

use sidewire::{Executed, Helper};

use crate::util::watchdog;

pub(crate) const ECHO: u16 = 1;
pub(crate) const ID: u16 = 2;
pub(crate) const SILENCE: u16 = 3;
pub(crate) const EXIT: u16 = 4;
pub(crate) const PRINT: u16 = 7;

pub(crate) fn python() -> Command {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/helper/helper.py"));
    command
}

/// The whole one of the reference.
///
/// PROTOCOL I1, I2, I4, I6
#[test]
fn the_helper_of_the_reference_does_as_it_says() {
    let _watchdog = watchdog(60);
    let document = include_str!("../../docs/protocol/connecting.md");
    let (_, rest) = document.split_once("```python helper\n").expect("a program");
    let mut command = Command::new("python3");
    command.args(["-I", "-c", rest.split("```").next().unwrap_or_default()]);
    let helper = Helper::spawn(command).expect("a helper");
    assert_eq!(helper.call(ECHO, "hello").expect("an answer").payload(), b"HELLO");
    let large = vec![b'x'; 300_000];
    assert_eq!(helper.call(ECHO, &large).expect("an answer").into_payload(), large.to_ascii_uppercase());
    helper.client().ping(std::time::Duration::from_secs(50)).expect("a sign of life");
    helper.stop().expect("a clean end");
}

#[test]
fn it_answers_and_ends_when_it_is_told_to() {
    let _watchdog = watchdog(60);
    let helper = Helper::spawn(python()).expect("a helper");
    assert_eq!(helper.call(ECHO, "hello").expect("an answer").payload(), b"hello");
    let id = helper.call(ID, "").expect("an answer").into_payload();
    assert_eq!(String::from_utf8_lossy(&id), helper.id().expect("it runs").to_string());
    let credentials = helper.client().peer();
    assert_eq!(credentials.credentials().and_then(|it| it.pid()), helper.id(), "not who made the socket");
    helper.stop().expect("a clean end");
    let error = helper.call(ECHO, "hello").expect_err("it was stopped");
    assert!(error.is_closed() && error.executed() == Executed::Never, "{error}");
    assert_eq!((helper.id(), helper.state().to_string()), (None, "stopped".into()));
    helper.stop().expect("nothing to do");
}

#[test]
fn its_exit_ends_the_call_with_status_and_last_words() {
    let _watchdog = watchdog(60);
    let helper = Helper::builder(python()).name("snake").spawn().expect("a helper");
    helper.call(PRINT, "these are my last words").expect("an answer");
    let error = helper.call(EXIT, "7").expect_err("it exits");
    assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
    assert_eq!(error.exit_status().and_then(|status| status.code()), Some(7));
    assert_eq!(error.last_words(), ["these are my last words"]);
    let text = error.to_string();
    assert!(
        text.starts_with("call helper snake (pid ") && text.contains(") (type 4): the peer has gone: "),
        "{text}"
    );
    assert!(
        text.ends_with("; it may have been executed\nits last words:\n  | these are my last words"),
        "{text}"
    );
    // Later ones are told the same, and were never sent.
    let later = helper.call(ECHO, "").expect_err("it has gone");
    assert_eq!((later.executed(), later.last_words().len()), (Executed::Never, 1), "{later}");
    assert_eq!(helper.state().to_string(), "ended: its process has ended: exit status: 7");
    assert!(helper.states().next().is_some_and(|state| state.is_final()));
}
