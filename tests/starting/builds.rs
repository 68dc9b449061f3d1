//! Of which build a server is.

use std::time::Duration;

use sidewire::{App, Build, Connect, Reconnect};

use crate::program::{Place, pid_of};
use crate::util::{fresh, watchdog};

#[test]
fn a_server_of_another_build_is_told_and_nothing_is_started() {
    let _watchdog = watchdog(60);
    let place = Place::at(fresh("local"));
    let app = |version: &str| App::new("starting", version);
    let connect = || place.connect(Duration::from_secs(30));
    let first = connect().app(app("1.0")).build(Build::at_least("1.2")).open();
    let first = first.unwrap_or_else(|error| panic!("{error}"));
    let pid = pid_of(&first).expect("an answer");
    for (ours, build) in [
        (app("1.2.4"), Build::same_version()),
        (app("1.2.3"), Build::at_least("1.2.4")),
        (app("1.2.3").contract([1; 32]), Build::same_version().same_contract()),
        (App::new("other", "1.2.3"), Build::at_least("0")),
    ] {
        let error = connect().app(ours.clone()).build(build).open().expect_err("another build");
        assert!(error.is_other_build() && !error.is_refused() && !error.is_protocol(), "{error}");
        let text = error.to_string();
        assert!(text.contains("starting 1.2.3") && text.contains(&ours.to_string()), "{text}");
        assert_eq!(error.server_app().map(App::version), Some("1.2.3"));
    }
    let same = connect().app(app("1.2.3")).build(Build::same_version()).open();
    assert_eq!(pid_of(&same.unwrap_or_else(|error| panic!("{error}"))).expect("an answer"), pid);
    assert_eq!(place.servers(), 1);
}

/// Whoever comes after a restart is held to it as well.
#[test]
fn the_next_server_is_held_to_it_too() {
    let _watchdog = watchdog(60);
    let endpoint = fresh("local");
    let serve = |version: &str| {
        let app = App::new("app", version);
        let server = sidewire::Server::builder(()).app(app).build().expect("a server");
        crate::util::start(server, [crate::util::usual(&endpoint)]).0
    };
    let running = serve("2");
    let connect = Connect::to(&endpoint).expect("an endpoint").app(App::new("app", "2"));
    let client = connect.build(Build::same_version()).reconnect(Reconnect::new()).open();
    let client = client.unwrap_or_else(|error| panic!("{error}"));
    running.stop().expect("the server ends well");
    let running = serve("1");
    let error = client.call(1, "").expect_err("another build");
    assert!(error.is_other_build() && client.is_closed(), "{error}");
    running.stop().expect("the server ends well");
}

#[test]
fn where_nobody_says_hello_no_build_can_be_asked_for() {
    let connect = Connect::to("local:nobody").expect("an endpoint").classic();
    let error = connect.build(Build::any().same_contract()).open().expect_err("no hello");
    assert!(error.is_invalid_input(), "{error}");
}
