//! A desktop app of three pieces, with Sidewire between them: a window, its helper process, and whoever starts the app
//! a second time.
//!
//!     sidewire-desktop [PICTURE]...      (starts itself once more, as its own helper)
//!
//! `helper` is the other process. `window` is what one sees; what it needs to talk with the helper is in there, too.

#![forbid(unsafe_code)]
#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

mod helper;
mod window;

use std::error::Error;

use sidewire::{Acquired, SingleInstance};

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    if std::env::args_os().nth(1).is_some_and(|role| role == helper::ROLE) {
        return Ok(helper::run()?);
    }
    match SingleInstance::acquire("com.example.darkroom")? {
        Acquired::First(instance) => Ok(window::open(instance)?),
        Acquired::Other(other) => {
            log::info!("{other}, has been told"); // it raises its window, and has our arguments
            Ok(())
        }
    }
}
