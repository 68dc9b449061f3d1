//! The file in which the loop's recorder is kept.

use sidewire_platform::Endpoint;

use super::{Server, Threads};
use crate::error::Result;
use crate::recorder::{self, Label};

/// What is left of the server should it die.
#[derive(Debug, Default)]
pub(super) enum Keeping {
    /// It will be in a file, as soon as anybody can reach the server.
    #[default]
    Waits,
    Begun(Label),
    /// Nothing: nobody wants it.
    Never,
}

impl<S, T: Threads> Server<S, T> {
    /// Somebody can reach the server from now on, here if that has a name.
    pub(super) fn keep_recording(&mut self, endpoint: Option<&Endpoint>) -> Result<()> {
        let recorder = self.core.reactor()?.recorder();
        match &mut self.keeping {
            Keeping::Never => {}
            Keeping::Waits => {
                recorder::sweep(endpoint);
                let (label, recording) = recorder::begin(recorder.base(), endpoint);
                if let Some(recording) = recording {
                    recorder.keep_in(recording);
                }
                self.keeping = Keeping::Begun(label);
            }
            Keeping::Begun(label) => {
                if let Some(endpoint) = endpoint.filter(|endpoint| label.add(endpoint)) {
                    recorder::sweep(Some(endpoint));
                    if let Err(error) = recorder.recording().describe(label.text().as_bytes()) {
                        log::debug!("{endpoint}: it is not said where the server is recorded: {error}");
                    }
                }
            }
        }
        Ok(())
    }
}
