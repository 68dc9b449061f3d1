//! Python scripts that know the protocol's text and nothing of our code: one the reference, one the page.

use sidewire::Endpoint;

use crate::stage::{Stage, Started, source};
use crate::util::watchdog;

fn converse(endpoint: &str, options: &[&str]) {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = endpoint.replace("FOLDER", &stage.folder().display().to_string());
    let server = stage.serve(&[endpoint], options);
    let place = match &server.endpoints[0] {
        Endpoint::Unix(path) => ["unix".to_owned(), path.display().to_string()],
        Endpoint::Tcp { port, .. } => ["tcp".to_owned(), port.to_string()],
        other => panic!("the script knows no {other}"),
    };
    let mut python = stage.command("python3", [source("v1_client.py").display().to_string()]);
    let outcome = Started::new(python.args(place), b"").finish().expect(0);
    assert_eq!(outcome.text().lines().count(), 10, "{outcome}");
}

/// Calls, answers that come later, cancels, parts, events, calls both ways, and what is fatal.
fn converse_by_the_page(endpoint: &str, options: &[&str]) {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let endpoint = endpoint.replace("FOLDER", &stage.folder().display().to_string());
    let server = stage.serve(&[endpoint], options);
    let mut python = stage.command("python3", [source("page_client.py").display().to_string()]);
    let outcome = Started::new(python.arg(server.endpoints[0].to_string()), b"").finish().expect(0);
    assert_eq!(outcome.text(), "calls\nlater\ncancels\nparts\nevents\nboth_ways\nerrors\n");
}

#[test]
fn one_that_knows_the_page_is_understood_over_a_path() {
    converse_by_the_page("unix:FOLDER/py.sock", &[]);
}

#[test]
fn one_that_knows_the_page_is_understood_over_tcp() {
    converse_by_the_page("tcp:127.0.0.1:0", &["--access", "anyone"]);
}

#[test]
fn it_is_understood_over_a_path() {
    converse("unix:FOLDER/py.sock", &[]);
}

#[test]
fn it_is_understood_over_tcp() {
    converse("tcp:127.0.0.1:0", &["--access", "anyone"]);
}
