//! Who is there.

use sidewire::{Failure, ResultCode, Server};

use crate::util::{connect, on_every_stream, watchdog};

const WHICH: u16 = 1;

#[test]
fn requests_name_their_connection() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(());
    server.on(WHICH, |(), request, reply| {
        let connection = request.connection();
        let connection = connection.ok_or_else(|| Failure::new(ResultCode::new(1), "no connection"))?;
        reply.write(connection.to_string());
        Ok(())
    });
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            let ask = |client: &sidewire::Client| client.call(WHICH, b"").expect("call").into_payload();
            let (v1, classic) = (connect(endpoint), connect(endpoint).classic());
            let clients = [&v1, &v1, &classic].map(|how| how.clone().open().expect("connect"));
            let names = clients.each_ref().map(ask);
            assert!(names[0] != names[1] && names[1] != names[2] && names[2] != names[0], "{names:?}");
            assert_eq!(clients.each_ref().map(ask), names, "the same as before");
        },
    );
}
