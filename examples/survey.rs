//! Calls both ways: whoever asks has the server ask everybody who answers.
//!
//!     survey serve [ENDPOINT]
//!     survey answer TEXT [ENDPOINT]      (answers every question so, until the server ends)
//!     survey ask QUESTION [ENDPOINT]     (prints what they answer)

mod support;

use std::{error::Error, process::ExitCode, time::Duration};

use sidewire::{Client, Connect, ConnectionId, Failure, Remote, Responder, Server};
use support::{Printer, finish, print};

/// Who answers.
type Panel = Vec<ConnectionId>;

/// What the server serves: to be asked from now on, and to have all of them asked.
const JOIN: u16 = 1;
const ASK: u16 = 2;
/// What those serve who have joined.
const QUESTION: u16 = 1;

const PATIENCE: Duration = Duration::from_secs(5);
const DEFAULT: &str = "local:survey";
const USAGE: &str = "usage: survey serve [ENDPOINT]
       survey answer TEXT [ENDPOINT]
       survey ask QUESTION [ENDPOINT]";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let endpoint = |at: usize| args.get(at).copied().unwrap_or(DEFAULT);
    let result = match args[..] {
        ["serve"] | ["serve", _] => serve(endpoint(1)),
        ["answer", text] | ["answer", text, _] => answer(text, endpoint(2)),
        ["ask", question] | ["ask", question, _] => ask(question, endpoint(2)),
        _ => return finish("survey", USAGE, None),
    };
    finish("survey", USAGE, Some(result))
}

fn serve(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(Panel::new());
    server.on(JOIN, |panel, request, _reply| {
        panel.extend(request.connection());
        Ok(())
    });
    let remote = server.remote()?;
    server.on(ASK, move |panel, request, reply| {
        // Nobody waits here: the answer is given when the last of them has said something.
        ask_all(&remote, panel.clone(), request.to_vec()?, String::new(), reply.defer()?)
    });
    server.stop_on_signals()?;
    let printer = Printer::new()?;
    printer.print(format!("listening {}\n", server.listen(endpoint)?));
    Ok(server.run()?)
}

/// Asks the last of those who are left, and from there the others.
fn ask_all(
    remote: &Remote<Panel>,
    mut left: Panel,
    question: Vec<u8>,
    mut answers: String,
    asker: Responder,
) -> Result<(), Failure> {
    let Some(next) = left.pop() else {
        asker.reply(answers);
        return Ok(());
    };
    let again = remote.clone();
    Ok(remote.peer(next).call(QUESTION, question.clone(), PATIENCE, move |panel, answer| {
        match answer {
            Ok(answer) => answers += &format!("{}\n", String::from_utf8_lossy(answer.payload())),
            // Who has gone, or says nothing, is not asked again.
            Err(_) => panel.retain(|other| *other != next),
        }
        // Should this fail, the asker hears of it: nobody is left with his responder.
        let _ = ask_all(&again, left, question, answers, asker);
    })?)
}

fn answer(text: &str, endpoint: &str) -> Result<(), Box<dyn Error>> {
    let text = text.to_owned();
    let client = Connect::to(endpoint)?.on(QUESTION, move |question, reply| {
        print(format!("asked: {}\n", String::from_utf8_lossy(question.payload()))).map_err(Failure::other)?;
        reply.write(&text);
        Ok(())
    });
    let client = client.open()?;
    client.call(JOIN, "")?;
    print("joined\n")?;
    Ok(client.run()?)
}

fn ask(question: &str, endpoint: &str) -> Result<(), Box<dyn Error>> {
    print(Client::connect(endpoint)?.call(ASK, question)?.into_payload())
}
