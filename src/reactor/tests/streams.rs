//! Streams without frames: how they are cut, and how a handler ends them.

use super::*;
use crate::reactor::system::memory::Side;

fn stage(cut: Cut) -> Stage {
    Stage::with(|_| {}, Access::SameUser, Carries::Plain(cut))
}

/// Each piece is read in a turn of its own.
#[test]
fn lines_come_out_however_they_are_cut() {
    let all = "one\ntwo\r\n\n\r\n\rthree\r\r\nfo\0ur\n\u{fc}\nthe rest".as_bytes();
    let lines: [&[u8]; 8] =
        [b"one", b"two", b"", b"", b"\rthree\r", b"fo\0ur", "\u{fc}".as_bytes(), b"the rest"];
    let say = |pieces: &[&[u8]]| {
        let mut stage = stage(Cut::Lines { max: 40 });
        let caller = stage.accepted();
        for piece in pieces {
            caller.send(piece);
            stage.turn();
            assert_eq!(caller.unread(), 0);
        }
        caller.close();
        stage.turn();
        assert_eq!(stage.service.pieces, lines, "{pieces:?}");
        assert_eq!(stage.service.closed.len(), 1);
    };
    say(&[all]);
    say(&all.chunks(1).collect::<Vec<_>>());
    (1..all.len()).for_each(|cut| say(&[&all[..cut], &all[cut..]]));
}

/// The caller's end has come together with what makes the handler close: there is nothing to wait for.
#[test]
fn closing_does_not_wait_for_an_end_that_is_there() {
    for (end, side) in [(true, Side::Flushed), (false, Side::ShutDown)] {
        let mut stage = stage(Cut::Raw);
        stage.service.on_data = |session, _| session.close();
        let caller = stage.accepted();
        caller.send(b"close");
        if end {
            caller.close();
        }
        stage.run(ms(1));
        assert_eq!((caller.server(), stage.service.closed.len()), (side, usize::from(end)));
    }
}

/// What one says to a handler that has closed is read, and not handed out.
#[test]
fn a_handler_that_has_closed_hears_no_more() {
    let mut stage = stage(Cut::Raw);
    stage.service.on_data = |session, _| {
        session.write("goodbye");
        session.close();
        session.write("this is too late");
    };
    let caller = stage.accepted();
    caller.send(b"first");
    stage.turn();
    caller.send(b"second");
    stage.turn();
    assert_eq!((caller.receive(), caller.unread()), (b"goodbye".to_vec(), 0));
    caller.close();
    stage.turn();
    assert_eq!(stage.service.pieces, [b"first"]);
    assert_eq!(stage.service.closed.len(), 1);
}

/// A handler that has finished is spoken to for as long as the caller likes.
#[test]
fn a_handler_that_has_finished_goes_on_listening() {
    let mut stage = stage(Cut::Raw);
    stage.service.on_data = |session, _| {
        session.write("that is all");
        session.finish();
    };
    let caller = stage.accepted();
    caller.send(b"first");
    stage.turn();
    assert_eq!((caller.receive(), caller.server()), (b"that is all".to_vec(), Side::ShutDown));
    for _ in 0..24 {
        stage.run(Duration::from_secs(3600));
        caller.send(b"more");
    }
    stage.turn();
    assert_eq!((stage.service.pieces.len(), stage.service.closed.len()), (25, 0));
    caller.close();
    stage.turn();
    assert_eq!(stage.service.closed.len(), 1);
}
