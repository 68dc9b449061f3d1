//! Connections that the program has already: no endpoint leads to them.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use sidewire::{Access, Client, Connect, Endpoint, Executed, Owned, Reconnect, Server};

use crate::util::{fresh, usual_access, watchdog};

const ECHO: u16 = 1;
const PID: u16 = 2;

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
    (near, listener.accept().expect("accept").0)
}

fn server() -> Server<()> {
    let mut server = Server::new(());
    server.on(ECHO, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server.on(PID, |(), request, reply| {
        let pid = request.peer().credentials().and_then(|known| known.pid());
        reply.write(pid.map(|pid| pid.to_string()).unwrap_or_default());
        Ok(())
    });
    server
}

fn echoes(client: &Client) {
    for length in [0, 5, 1 << 20] {
        let payload = vec![7; length];
        assert_eq!(client.call(ECHO, &payload).expect("an answer").into_payload(), payload);
    }
}

/// Several of them, beside a listener.
fn serve_pairs<S: Into<Owned>>(pair: impl Fn() -> (S, S), access: Access) {
    let mut server = server();
    let endpoint = server.listen(fresh("local")).expect("listen");
    let mut ours = Vec::new();
    for _ in 0..3 {
        let (near, far) = pair();
        server.serve_stream(far, access.clone()).expect("a stream");
        ours.push(near);
    }
    let remote = server.remote().expect("a loop");
    let running = server.spawn().expect("spawn");
    let clients =
        ours.into_iter().map(|near| Connect::over(near).access(access.clone()).open().expect("a client"));
    let clients: Vec<_> = clients.collect();
    clients.iter().for_each(echoes);
    assert_eq!(remote.peers().expect("it runs").len(), 3);
    drop(clients);
    // That they have ended is no end of the server.
    let client = Client::connect(endpoint).expect("connect");
    echoes(&client);
    drop(client);
    running.stop().expect("stop");
}

#[test]
fn connections_of_tcp_are_served() {
    let _watchdog = watchdog(60);
    serve_pairs(tcp_pair, Access::Anyone);
}

#[cfg(unix)]
#[test]
fn pairs_of_sockets_are_served() {
    use std::os::unix::net::UnixStream;

    let _watchdog = watchdog(60);
    let pair = || UnixStream::pair().expect("a pair");
    serve_pairs(pair, Access::SameUser);

    let (near, far) = pair();
    let mut server = server();
    server.serve_stream(far, Access::SameUser).expect("a stream");
    let running = server.spawn().expect("spawn");
    let classic = Connect::over(near).classic().open().expect("a client");
    assert_eq!(classic.call(ECHO, "hello").expect("an answer").payload(), b"hello");
    if cfg!(target_os = "linux") {
        let pid = classic.call(PID, "").expect("an answer").into_payload();
        assert_eq!(String::from_utf8_lossy(&pid), std::process::id().to_string());
    }
    assert!(matches!(classic.endpoint(), Endpoint::Unnamed(name) if name.starts_with("fd ")));
    drop(classic);
    running.stop().expect("stop");
}

#[test]
fn an_accepted_connection_of_a_server_can_be_used_as_well() {
    let _watchdog = watchdog(60);
    let mut server = server();
    let endpoint = fresh("tcp");
    let listen = sidewire::Listen::on(&endpoint).expect("an endpoint").access(usual_access(&endpoint));
    let Endpoint::Tcp { host, port } = server.listen(listen).expect("listen") else { panic!("TCP") };
    let running = server.spawn().expect("spawn");
    let stream = TcpStream::connect((host.as_str(), port)).expect("connect");
    let client = Connect::over(stream).access(Access::Anyone).open().expect("a client");
    echoes(&client);
    drop(client);
    running.stop().expect("stop");
}

#[test]
fn what_can_t_be_is_said() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(());
    let datagrams = || UdpSocket::bind("127.0.0.1:0").expect("a port");
    let errors = [
        server.serve_stream(datagrams(), Access::Anyone).expect_err("no connection"),
        server.serve_stream(tcp_pair().0, Access::SameUser).expect_err("nobody knows whose"),
        Connect::over(datagrams()).open().expect_err("no connection"),
        Connect::over(TcpListener::bind("127.0.0.1:0").expect("a port")).open().expect_err("no connection"),
        Connect::over(tcp_pair().0).reconnect(Reconnect::new()).open().expect_err("there is one"),
        Connect::to(Endpoint::Unnamed("parent".into())).expect("an endpoint").open().expect_err("no name"),
        server.listen(Endpoint::Unnamed("parent".into())).expect_err("no name"),
    ];
    for error in &errors {
        assert!(error.is_invalid_input() && error.executed() == Executed::Never, "{error}");
    }
    assert!(errors[2].to_string().contains("is a UDP socket"), "{}", errors[2]);
    let refused = Connect::over(tcp_pair().0).open().expect_err("nobody knows whose");
    assert!(refused.is_refused(), "{refused}");
}

#[test]
fn a_connection_is_used_once() {
    let _watchdog = watchdog(60);
    let (near, far) = tcp_pair();
    let mut server = server();
    server.serve_stream(far, Access::Anyone).expect("a stream");
    let running = server.spawn().expect("spawn");
    let connect = Connect::over(near).access(Access::Anyone).timeout(Duration::from_secs(50));
    let client = connect.clone().open().expect("a client");
    let again = connect.open().expect_err("the same connection");
    assert!(again.is_invalid_input() && again.to_string().contains("used before"), "{again}");
    echoes(&client);
    drop(client);
    running.stop().expect("stop");
}
