//! Where the commands of a client connect to: an endpoint, or a program that they start.

use std::ffi::OsString;
use std::fmt;

use clap::builder::{OsStringValueParser, TypedValueParser};
use sidewire::{CommandEndpoint, Connect, Endpoint, EndpointError, EndpointKind, Error};

/// Who calls this tool may run what he likes anyway, so here one text may say both.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Endpoint(Endpoint),
    Program(CommandEndpoint),
}

impl Target {
    fn read(text: OsString) -> Result<Target, EndpointError> {
        let bytes = text.as_encoded_bytes();
        if bytes.starts_with(b"exec:") || bytes.starts_with(b"ssh:") {
            return CommandEndpoint::try_from(text).map(Target::Program);
        }
        Endpoint::try_from(text).map(Target::Endpoint)
    }

    pub(crate) fn connect(&self) -> Result<Connect, Error> {
        match self {
            Target::Endpoint(endpoint) => Connect::to(endpoint),
            Target::Program(program) => Connect::to_command(program),
        }
    }

    pub(crate) fn kind(&self) -> EndpointKind {
        match self {
            Target::Endpoint(endpoint) => endpoint.kind(),
            Target::Program(_) => EndpointKind::Stream,
        }
    }

    /// Whether it is known whose server it is.
    pub(crate) fn can_verify_server(&self) -> bool {
        match self {
            Target::Endpoint(endpoint) => endpoint.can_verify_server(),
            Target::Program(_) => true,
        }
    }
}

impl From<&Endpoint> for Target {
    fn from(endpoint: &Endpoint) -> Target {
        Target::Endpoint(endpoint.clone())
    }
}

impl From<&Target> for Target {
    fn from(target: &Target) -> Target {
        target.clone()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Endpoint(endpoint) => endpoint.fmt(f),
            Target::Program(program) => program.fmt(f),
        }
    }
}

/// For clap: an endpoint or a command, or why it is neither.
pub(crate) fn target_parser() -> impl TypedValueParser<Value = Target> {
    OsStringValueParser::new().try_map(Target::read)
}
