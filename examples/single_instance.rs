//! An app of which one instance runs. Start it, and start it again in another terminal: the first prints what
//! the second was started with, and the second is done.
//!
//!     single_instance [FILE]...
//!     single_instance quit

mod support;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use sidewire::{Acquired, SingleInstance};
use support::{finish, print};

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    finish("single_instance", "", Some(run()))
}

fn run() -> Result<(), Box<dyn Error>> {
    // What a desktop gives the second, the first needs to put its window in front.
    let builder = SingleInstance::builder("sidewire.example").environment(["XDG_ACTIVATION_TOKEN"]);
    let instance = match builder.acquire()? {
        Acquired::First(instance) => instance,
        Acquired::Other(other) => return print(format!("{other}, does it\n")),
    };
    print("this is the instance; start it again, with the names of files, or with quit\n")?;
    // On a thread of its own, where the app has a loop: SingleInstance::on_activation wakes that.
    for activation in instance.activations() {
        let folder = activation.working_folder().unwrap_or(Path::new(""));
        if activation.arguments() == ["quit"] {
            break;
        }
        for file in activation.arguments() {
            print(format!("open {}\n", folder.join(file).display()))?;
        }
        let token = activation.environment("XDG_ACTIVATION_TOKEN");
        print(format!("raise the window, with the token {token:?}\n"))?;
    }
    Ok(())
}
