//! Endpoints where both sides prove that they know a token.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sidewire::{
    Client, Connect, Endpoint, Error, Layout, Listen, Reconnect, ResultCode, Server, Session, StreamHandler,
    Token,
};

use crate::util::{Raw, all_streams, classic, frame, fresh, hello, start, store, watchdog};

const ECHO: u16 = 4;

fn asking(endpoint: &Endpoint, key: u8) -> Listen {
    Listen::from(endpoint).token(Token::new([key; 32]))
}

fn with_key(endpoint: &Endpoint, key: u8) -> Result<Client, Error> {
    Connect::to(endpoint)?.token(Token::new([key; 32])).open()
}

/// A server that counts whom its handlers were told of.
fn counting() -> (Server<Vec<u8>>, Arc<AtomicUsize>) {
    let (mut server, told) = (store(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&told);
    server.on_connect(move |_state, _peer| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    (server, told)
}

/// PROTOCOL W1, W3
#[test]
fn who_knows_it_is_served_on_every_kind_of_stream() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (server, told) = counting();
        let (running, bound) = start(server, [asking(&endpoint, 1)]);
        for _ in 0..3 {
            let client = with_key(&bound[0], 1).expect("one who knows it");
            assert_eq!(client.call(ECHO, b"hello").expect("a call").payload(), b"hello");
        }
        assert_eq!(told.load(Ordering::SeqCst), 3);
        running.stop().expect("an orderly end");
    }
}

/// PROTOCOL W2, W5
#[test]
fn who_does_not_know_it_learns_what_is_missing() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (server, told) = counting();
        let (running, bound) = start(server, [asking(&endpoint, 1), usual_beside(&endpoint)]);
        let wrong = with_key(&bound[0], 2).expect_err("another key");
        assert!(wrong.is_protocol() && wrong.to_string().contains("another token"), "{wrong}");
        let none = crate::util::connect(&bound[0]).open().expect_err("no key");
        assert!(none.is_protocol() && none.to_string().contains("asks for a token"), "{none}");
        let unasked = with_key(&bound[1], 1).expect_err("no proof");
        assert!(unasked.is_protocol() && unasked.to_string().contains("asks for no token"), "{unasked}");
        assert_eq!(told.load(Ordering::SeqCst), 1, "the one where no token is asked for");
        running.stop().expect("an orderly end");
    }
}

/// Another endpoint of that kind, where none is asked for.
fn usual_beside(endpoint: &Endpoint) -> Listen {
    crate::util::usual(&fresh(endpoint.scheme()))
}

/// PROTOCOL W4, W6
#[test]
fn a_stranger_gets_nothing_done() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (server, told) = counting();
        let (running, bound) = start(server, [asking(&endpoint, 1)]);
        let request = frame(1, ECHO, 1, 0, b"hello");
        let auth = frame(11, 0, 0, 0, &[0; 32]);
        for behind in [&request, &auth, &[&auth[..], &request].concat(), &vec![0xFF; 100_000]] {
            let raw = Raw::connect(&bound[0]);
            // At once with the hello, as one does who knows the protocol's text half.
            let _ = raw.try_send(&[&hello(1, 1)[..], behind].concat());
            let answer = raw.receive_to_end_or_reset();
            let length = usize::from(u16::from_le_bytes([answer[4], answer[5]]));
            let goodbye = &answer[length..];
            assert_eq!(
                (goodbye[4], &goodbye[12..16]),
                (12, &ResultCode::NOT_PERMITTED.code().to_le_bytes()[..])
            );
        }
        // The classic layout knows no token.
        let raw = Raw::connect(&bound[0]);
        raw.send(&classic(i32::from(ECHO), 0, b"hello"));
        let (_, rc, _) = raw.receive_classic();
        assert_eq!(rc, ResultCode::NOT_PERMITTED.code());
        raw.expect_end_or_reset();
        assert_eq!(told.load(Ordering::SeqCst), 0);
        with_key(&bound[0], 1).expect("others are served").call(ECHO, b"x").expect("a call");
        running.stop().expect("an orderly end");
    }
}

struct Nothing;

impl StreamHandler<Vec<u8>> for Nothing {
    fn data(&mut self, _state: &mut Vec<u8>, _session: &mut Session<'_>, _bytes: &[u8]) {}
}

#[test]
fn where_it_can_not_be_it_is_refused() {
    let _watchdog = watchdog(60);
    let refusal = |result: Result<Endpoint, Error>| {
        let error = result.expect_err("it can't be");
        assert!(error.is_invalid_input(), "{error}");
    };
    let tcp = fresh("tcp");
    refusal(store().listen(asking(&fresh("udp"), 1)));
    refusal(store().listen(asking(&tcp, 1).classic_max(10)));
    refusal(store().listen_raw(asking(&tcp, 1), Nothing));
    let connect = || Connect::to("tcp:127.0.0.1:9").expect("an endpoint").token(Token::new([1; 32]));
    for result in [connect().classic().open().map(drop), connect().open_raw().map(drop)] {
        assert!(result.expect_err("it can't be").is_invalid_input());
    }
    let udp = Connect::to("udp:127.0.0.1:9").expect("an endpoint").token(Token::new([1; 32]));
    assert!(udp.open().expect_err("it can't be").is_invalid_input());
}

/// It stands for the same user, and for nothing else that is asked of a client.
#[test]
fn a_token_replaces_no_other_rule() {
    let _watchdog = watchdog(60);
    let never = sidewire::Access::Anyone.and_if("never", |_| false);
    let (running, bound) = start(store(), [asking(&fresh("tcp"), 1).access(never)]);
    let error = with_key(&bound[0], 1).expect_err("whatever it proves");
    assert!(error.is_refused(), "{error}");
    running.stop().expect("an orderly end");
    let program = sidewire::Access::program(std::env::current_exe().expect("this test"));
    let error = store().listen(asking(&fresh("tcp"), 1).access(program)).expect_err("nobody vouches");
    assert!(error.is_invalid_input(), "{error}");
}

/// The key of a server that starts anew with another file is another one, and is read anew.
#[test]
fn a_client_that_reconnects_reads_the_file_again() {
    let _watchdog = watchdog(60);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.token");
    let listen = |endpoint: &Endpoint| Listen::from(endpoint).token(Token::file(&path));
    let connect =
        |endpoint: &Endpoint| Connect::to(endpoint).map(|connect| connect.token(Token::file(&path)));
    let missing = connect(&"tcp:127.0.0.1:9".parse().expect("an endpoint")).and_then(Connect::open);
    let missing = missing.expect_err("no file, or nobody there");
    assert!(missing.is_not_listening(), "{missing}");

    let local = fresh("local");
    let (running, _) = start(store(), [listen(&local)]);
    let reconnect = Reconnect::default().within(Duration::from_secs(30));
    let client = connect(&local).expect("an endpoint").reconnect(reconnect).open().expect("open");
    assert_eq!(client.layout(), Layout::V1);
    client.call(ECHO, b"before").expect("a call");
    running.stop().expect("an orderly end");
    std::fs::remove_file(&path).expect("the file stays when the server ends");
    let (running, _) = start(store(), [listen(&local)]);
    assert_eq!(client.request(ECHO).idempotent().send(b"behind").expect("a call").payload(), b"behind");
    running.stop().expect("an orderly end");
}
