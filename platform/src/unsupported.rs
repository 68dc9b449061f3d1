//! Systems without an implementation: the same names, so that everything above compiles, and
//! [`io::ErrorKind::Unsupported`] from every constructor. The types have no values.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, ExitStatus};
#[cfg(feature = "tokio")]
use std::task;
use std::time::Duration;

pub use mio::event::Event;
pub use mio::{Events, Poll, Registry, Waker};
use mio::{Interest, Token};

use crate::datagram::{Received, SendBuffer};
use crate::endpoint::Endpoint;
use crate::instance::Claim;
use crate::manager::Notice;
use crate::peer::{Address, Group, Peer, User};
use crate::start::Busy;
use crate::{BindOptions, Carried, RecordingFile, Ring};

#[path = "contract.rs"]
mod contract;

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "Sidewire does not know this operating system"))
}

/// What a frame carries.
#[derive(Debug)]
pub struct Attachment(File);

#[allow(missing_docs)] // See unix/attachment.rs.
impl Attachment {
    #[must_use]
    pub fn into_file(self) -> File {
        self.0
    }

    pub const ARE_NAMED: bool = false;

    #[allow(clippy::missing_errors_doc)]
    pub fn name(&self) -> io::Result<u32> {
        unsupported()
    }
}

impl From<File> for Attachment {
    fn from(file: File) -> Attachment {
        Attachment(file)
    }
}

#[allow(missing_docs)] // See unix/disposal.rs.
pub fn close_aside(attachments: Vec<Attachment>) {
    drop(attachments);
}

#[allow(missing_docs)] // See unix/attachment.rs.
#[must_use]
pub fn carries_attachments(_endpoint: &Endpoint) -> bool {
    false
}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/private.rs.
pub fn create_private_file(_path: &Path, _bytes: &[u8]) -> io::Result<()> {
    unsupported()
}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/private.rs.
pub fn read_private_file(_path: &Path, _most: usize) -> io::Result<Vec<u8>> {
    unsupported()
}

/// The file of a recording, of which there is none.
#[derive(Debug)]
pub(crate) struct Mapped(Infallible);

impl Mapped {
    pub(crate) fn create(_name: &str, _text: &[u8]) -> io::Result<Mapped> {
        unsupported()
    }
    pub(crate) fn ring(&self) -> &Ring {
        match self.0 {}
    }
    pub(crate) fn path(&self) -> &Path {
        match self.0 {}
    }
    pub(crate) fn describe(&self, _text: &[u8]) -> io::Result<()> {
        match self.0 {}
    }
}

#[allow(missing_docs)] // See unix/recording.rs.
#[must_use]
pub fn recordings(_of: Option<u32>) -> Vec<RecordingFile> {
    Vec::new()
}

/// Where what frames name is fetched from.
#[derive(Debug)]
pub struct PeerProcess(());

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/attachment.rs.
impl PeerProcess {
    pub fn of(_peer: &Peer) -> io::Result<PeerProcess> {
        unsupported()
    }

    pub fn fetch(&self, _names: &[u32]) -> io::Result<Vec<Attachment>> {
        unsupported()
    }
}

/// What the program has opened itself.
#[derive(Debug)]
pub struct Owned(());

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/owned.rs.
impl Owned {
    pub fn endpoint(&self) -> io::Result<Endpoint> {
        unsupported()
    }
}

impl From<TcpStream> for Owned {
    fn from(_socket: TcpStream) -> Owned {
        Owned(())
    }
}

impl From<TcpListener> for Owned {
    fn from(_socket: TcpListener) -> Owned {
        Owned(())
    }
}

impl From<UdpSocket> for Owned {
    fn from(_socket: UdpSocket) -> Owned {
        Owned(())
    }
}

impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a socket")
    }
}

/// The process that serves at the other end of a channel.
#[derive(Debug)]
pub enum ExpectedProcess {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/foreign.rs.
impl ExpectedProcess {
    pub fn at(channel: &Channel) -> io::Result<ExpectedProcess> {
        match *channel {}
    }
    pub fn meet(&self, _channel: &Channel, _timeout: Option<Duration>) -> io::Result<ForeignProcess> {
        match *self {}
    }
}

/// The file of a program.
#[derive(Debug)]
pub enum Executable {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/executable.rs.
impl Executable {
    pub fn can_be_told() -> io::Result<()> {
        unsupported()
    }
    pub fn at(_path: &Path) -> io::Result<Executable> {
        unsupported()
    }
    pub fn own() -> io::Result<Executable> {
        unsupported()
    }
    #[must_use]
    pub fn path(&self) -> &Path {
        match *self {}
    }
    #[must_use]
    pub fn is_same(&self, _other: &Executable) -> bool {
        match *self {}
    }
}

/// A process that others have started.
#[derive(Debug)]
pub enum ForeignProcess {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/foreign.rs.
impl ForeignProcess {
    pub const REQUEST: &'static str = "no way";

    #[must_use]
    pub fn id(&self) -> u32 {
        match *self {}
    }
    #[must_use]
    pub fn user(&self) -> &User {
        match *self {}
    }
    pub fn ask_to_end(&self) -> io::Result<()> {
        match *self {}
    }
    pub fn wait(&self, _timeout: Option<Duration>) -> io::Result<bool> {
        match *self {}
    }
}

/// The `local:` endpoints of this user.
///
/// # Errors
///
/// Always.
pub fn local_endpoints() -> io::Result<Vec<Endpoint>> {
    unsupported()
}

/// A bound stream endpoint.
#[derive(Debug)]
pub enum Listener {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/listener.rs.
impl Listener {
    pub fn bind(_endpoint: &Endpoint, _options: &BindOptions) -> io::Result<Listener> {
        unsupported()
    }
    pub fn from_owned(_owned: Owned, _options: &BindOptions) -> io::Result<Listener> {
        unsupported()
    }
    #[must_use]
    pub fn is_gone(_endpoint: &Endpoint) -> bool {
        true
    }
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        match *self {}
    }
    pub fn local_address(&self) -> io::Result<Address> {
        match *self {}
    }
    pub fn register(&mut self, _registry: &Registry, _token: Token) -> io::Result<()> {
        match *self {}
    }
    pub fn deregister(&mut self, _registry: &Registry) -> io::Result<()> {
        match *self {}
    }
    #[must_use]
    pub fn can_be_lost(&self) -> bool {
        match *self {}
    }
    pub fn renew(&mut self, _registry: &Registry, _token: Token) -> io::Result<bool> {
        match *self {}
    }
    pub fn accept(&mut self, _registry: &Registry, _token: Token) -> io::Result<Stream> {
        match *self {}
    }
    pub fn withdraw(&mut self, _registry: &Registry) {
        match *self {}
    }
    pub fn pass(&self, _stream: &Stream, _bytes: &[u8]) -> io::Result<usize> {
        match *self {}
    }
    pub fn hand_on(&mut self, _registry: &Registry) {
        match *self {}
    }
    pub fn take_over(
        _endpoint: &Endpoint,
        _options: &BindOptions,
        channel: &Channel,
        _passed: Option<Owned>,
    ) -> io::Result<Listener> {
        match *channel {}
    }
    pub fn own(&mut self, _options: &BindOptions) -> io::Result<()> {
        match *self {}
    }
}

/// One accepted connection.
#[derive(Debug)]
pub enum Stream {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/stream.rs.
impl Stream {
    pub const SHORT_READ_DRAINS: bool = false;

    pub fn from_owned(_owned: Owned) -> io::Result<Stream> {
        unsupported()
    }
    pub fn register(&mut self, _registry: &Registry, _token: Token, _interest: Interest) -> io::Result<()> {
        match *self {}
    }
    pub fn reregister(&mut self, _registry: &Registry, _token: Token, _interest: Interest) -> io::Result<()> {
        match *self {}
    }
    pub fn deregister(&mut self, _registry: &Registry) -> io::Result<()> {
        match *self {}
    }
    pub fn read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
    pub fn read_append(&mut self, _buf: &mut Vec<u8>, _most: usize) -> io::Result<usize> {
        match *self {}
    }
    pub fn write(&mut self, _buf: &[u8]) -> io::Result<usize> {
        match *self {}
    }
    pub fn write_vectored(&mut self, _pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }
    pub fn read_attached(&mut self, _buf: &mut [u8]) -> io::Result<(usize, Carried)> {
        match *self {}
    }
    pub fn write_attached(
        &mut self,
        _pieces: &[io::IoSlice<'_>],
        _attachments: &[Attachment],
    ) -> io::Result<usize> {
        match *self {}
    }
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match *self {}
    }

    #[must_use]
    pub fn has_half_close(&self) -> bool {
        match *self {}
    }
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        match *self {}
    }
    pub fn peer(&self) -> io::Result<Peer> {
        match *self {}
    }
    pub fn is_member(&self, _groups: &[Group]) -> io::Result<bool> {
        match *self {}
    }
    pub fn executable(&self) -> io::Result<Executable> {
        match *self {}
    }
    pub fn local_address(&self) -> io::Result<Address> {
        match *self {}
    }
    pub fn peer_address(&self) -> io::Result<Address> {
        match *self {}
    }
    pub fn close_flushed(self, _within: Duration) {
        match self {}
    }
    pub fn abort(self) {
        match self {}
    }
}

/// A program that outlives whoever starts it.
#[derive(Debug)]
pub struct Program(Command);

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/detached.rs.
impl Program {
    #[must_use]
    pub fn new(command: Command) -> Program {
        Program(command)
    }
    #[must_use]
    pub fn name(&self) -> String {
        self.0.get_program().to_string_lossy().into_owned()
    }
    pub fn start(&mut self) -> io::Result<Started> {
        unsupported()
    }
}

/// A program that was started.
#[derive(Debug)]
pub enum Started {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/detached.rs.
impl Started {
    #[must_use]
    pub fn pid(&self) -> u32 {
        match *self {}
    }
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match *self {}
    }
    pub fn kill(&mut self) -> io::Result<()> {
        match *self {}
    }
}

/// The right to start a server at an endpoint.
#[derive(Debug)]
pub enum StartLock {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/start_lock.rs.
impl StartLock {
    pub fn try_acquire(_endpoint: &Endpoint) -> io::Result<Result<StartLock, Busy>> {
        unsupported()
    }
    pub fn tell(&self, _busy: Busy) {
        match *self {}
    }
}

/// One opened connection.
#[derive(Debug)]
pub enum Channel {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/channel.rs.
impl Channel {
    pub fn connect(_endpoint: &Endpoint, _timeout: Option<Duration>) -> io::Result<Channel> {
        unsupported()
    }
    pub fn is_member(&self, _groups: &[Group]) -> io::Result<bool> {
        match *self {}
    }
    pub fn executable(&self) -> io::Result<Executable> {
        match *self {}
    }
    pub fn from_owned(_owned: Owned) -> io::Result<Channel> {
        unsupported()
    }
    pub fn poll_descriptor(&self) -> io::Result<PollDescriptor> {
        match *self {}
    }
    #[must_use]
    pub fn peer(&self) -> &Peer {
        match *self {}
    }
    pub fn local_address(&self) -> io::Result<Address> {
        match *self {}
    }
    pub fn peer_address(&self) -> io::Result<Address> {
        match *self {}
    }
    pub fn spin(&mut self, _time: Duration) {
        match *self {}
    }
    pub fn recv(&self, _buf: &mut [u8], _timeout: Option<Duration>) -> io::Result<usize> {
        match *self {}
    }
    pub fn recv_append(
        &self,
        _buf: &mut Vec<u8>,
        _most: usize,
        _timeout: Option<Duration>,
    ) -> io::Result<usize> {
        match *self {}
    }
    pub fn expect_passed(&self) {
        match *self {}
    }
    pub fn expect_attachments(&self) {
        match *self {}
    }
    pub fn recv_attached(&self, _buf: &mut [u8], _timeout: Option<Duration>) -> io::Result<(usize, Carried)> {
        match *self {}
    }
    pub fn send_attached(
        &self,
        _buf: &[u8],
        _attachments: &[Attachment],
        _timeout: Option<Duration>,
    ) -> io::Result<usize> {
        match *self {}
    }
    pub fn recv_passed(
        &self,
        _buf: &mut [u8],
        _timeout: Option<Duration>,
    ) -> io::Result<(usize, Option<Owned>)> {
        match *self {}
    }
    pub fn send(&self, _buf: &[u8], _timeout: Option<Duration>) -> io::Result<usize> {
        match *self {}
    }
    pub fn send_pieces(&self, _pieces: &[io::IoSlice<'_>], _timeout: Option<Duration>) -> io::Result<usize> {
        match *self {}
    }
    #[must_use]
    pub fn has_half_close(&self) -> bool {
        match *self {}
    }
    pub fn shutdown_write(&self) -> io::Result<()> {
        match *self {}
    }
    pub fn shutdown(&self) {
        match *self {}
    }
    pub fn hang_up(&self) {
        match *self {}
    }
}

/// One opened connection for tasks.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub enum AsyncChannel {}

#[cfg(feature = "tokio")]
#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/async_channel.rs.
impl AsyncChannel {
    pub fn new(channel: Channel) -> io::Result<AsyncChannel> {
        match channel {}
    }
    #[must_use]
    pub fn peer(&self) -> &Peer {
        match *self {}
    }
    pub fn local_address(&self) -> io::Result<Address> {
        match *self {}
    }
    pub fn peer_address(&self) -> io::Result<Address> {
        match *self {}
    }
    pub fn recv_now(&self, _buf: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
    pub fn poll_recv(&self, _task: &mut task::Context<'_>, _buf: &mut [u8]) -> task::Poll<io::Result<usize>> {
        match *self {}
    }
    pub fn send_now(&self, _buf: &[u8]) -> io::Result<usize> {
        match *self {}
    }
    pub fn poll_send(&self, _task: &mut task::Context<'_>, _buf: &[u8]) -> task::Poll<io::Result<usize>> {
        match *self {}
    }
    pub fn shutdown(&self) {
        match *self {}
    }
    pub fn hang_up(&self) {
        match *self {}
    }
}

/// A bound datagram endpoint.
#[derive(Debug)]
pub enum Datagrams {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/datagram.rs.
impl Datagrams {
    pub fn bind(_endpoint: &Endpoint, _options: &BindOptions) -> io::Result<Datagrams> {
        unsupported()
    }
    pub fn from_owned(_owned: Owned, _options: &BindOptions) -> io::Result<Datagrams> {
        unsupported()
    }
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        match *self {}
    }
    pub fn register(
        &mut self,
        _registry: &Registry,
        _token: Token,
        _ready: Box<dyn Fn() + Send + Sync>,
    ) -> io::Result<()> {
        match *self {}
    }
    pub fn deregister(&mut self, _registry: &Registry) -> io::Result<()> {
        match *self {}
    }
    #[must_use]
    pub fn can_be_lost(&self) -> bool {
        match *self {}
    }
    pub fn renew(&mut self, _registry: &Registry, _token: Token) -> io::Result<bool> {
        match *self {}
    }
    pub fn receive(&mut self, _buf: &mut [u8]) -> io::Result<Received> {
        match *self {}
    }
    pub fn send(&mut self, _bytes: &[u8], _to: &Address, _owner: Option<&User>) -> io::Result<()> {
        match *self {}
    }
    #[must_use]
    pub fn send_buffer(&self) -> Option<SendBuffer> {
        match *self {}
    }
}

/// One end for datagrams to and from one server.
#[derive(Debug)]
pub enum DatagramChannel {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/datagram_channel.rs.
impl DatagramChannel {
    pub fn connect(_endpoint: &Endpoint) -> io::Result<DatagramChannel> {
        unsupported()
    }
    #[must_use]
    pub fn peer(&self) -> &Peer {
        match *self {}
    }
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        match *self {}
    }
    pub fn local_address(&self) -> io::Result<Address> {
        match *self {}
    }
    pub fn peer_address(&self) -> io::Result<Address> {
        match *self {}
    }
    pub fn send(&self, _bytes: &[u8], _timeout: Option<Duration>) -> io::Result<()> {
        match *self {}
    }
    pub fn receive(&self, _buf: &mut [u8], _timeout: Option<Duration>) -> io::Result<Received> {
        match *self {}
    }
}

/// A child process with a private channel.
#[derive(Debug)]
pub enum ChildProcess {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/child.rs.
impl ChildProcess {
    pub fn spawn(_command: &mut Command) -> io::Result<ChildProcess> {
        unsupported()
    }
    pub fn spawn_on_standard(_command: &mut Command) -> io::Result<ChildProcess> {
        unsupported()
    }
    #[must_use]
    pub fn id(&self) -> u32 {
        match *self {}
    }
    pub fn channel(&self, _timeout: Option<Duration>) -> io::Result<Channel> {
        match *self {}
    }
    pub fn take_stdout(&mut self) -> Option<File> {
        match *self {}
    }
    pub fn take_stderr(&mut self) -> Option<File> {
        match *self {}
    }
    pub fn wait(&self, _timeout: Option<Duration>) -> io::Result<Option<ExitStatus>> {
        match *self {}
    }
    pub fn terminate(&self) -> io::Result<()> {
        match *self {}
    }
    pub fn kill(&self) -> io::Result<()> {
        match *self {}
    }
}

/// The channel to the parent.
#[derive(Debug)]
pub enum ParentChannel {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/inherited.rs.
impl ParentChannel {
    pub fn take() -> io::Result<Option<ParentChannel>> {
        unsupported()
    }
    #[must_use]
    pub fn parent(&self) -> u32 {
        match *self {}
    }
    pub fn into_channel(self) -> io::Result<Channel> {
        match self {}
    }
    pub fn into_stream(self) -> io::Result<Stream> {
        match self {}
    }
    pub fn watch(&mut self, _on_death: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        match *self {}
    }
}

/// A poll as a descriptor for other loops.
#[derive(Debug)]
pub enum PollDescriptor {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/poll.rs.
impl PollDescriptor {
    pub fn of(_poll: &Poll) -> io::Result<PollDescriptor> {
        unsupported()
    }
}

/// A poll that a task waits for.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub enum AsyncPoll {}

#[cfg(feature = "tokio")]
#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/async_poll.rs.
impl AsyncPoll {
    pub fn of(_poll: &Poll) -> io::Result<AsyncPoll> {
        unsupported()
    }
    pub fn poll_ready(&self, _task: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        match *self {}
    }
}

/// The right to be the one instance of an app.
#[derive(Debug)]
pub enum InstanceLock {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/instance.rs.
impl InstanceLock {
    pub fn claim(_app: &str) -> io::Result<Claim> {
        unsupported()
    }
    pub fn endpoint(_app: &str) -> io::Result<Endpoint> {
        unsupported()
    }
}

/// Lets this process put its window in front: nothing is to be done for it here.
#[must_use]
pub fn allow_foreground(_pid: u32) -> bool {
    false
}

/// A text of the system as bytes: as UTF-8.
#[must_use]
pub fn encode_text(text: &OsStr) -> Vec<u8> {
    text.to_string_lossy().into_owned().into_bytes()
}

/// The text that these bytes were made of.
#[must_use]
pub fn decode_text(bytes: &[u8]) -> Option<OsString> {
    os_string(bytes)
}

/// A spare descriptor.
#[derive(Debug)]
pub enum Reserve {}

impl Reserve {
    /// # Errors
    ///
    /// Always.
    pub fn new() -> io::Result<Reserve> {
        unsupported()
    }
}

/// The sockets that a service manager has opened for this process: not known here.
///
/// # Errors
///
/// Always.
pub fn activated() -> io::Result<Vec<(String, Owned)>> {
    unsupported()
}

/// Tells the service manager something: nobody is known to listen.
///
/// # Errors
///
/// Always.
pub fn tell_manager(_notices: &[Notice<'_>]) -> io::Result<bool> {
    unsupported()
}

/// The user whose rights this process has.
///
/// # Errors
///
/// Always.
pub fn current_user() -> io::Result<User> {
    unsupported()
}

/// Which number stands for users that have none: users have no numbers.
pub(crate) fn overflow_id(_file: &str) -> Option<u32> {
    None
}

/// The integrity level of this process: none.
#[must_use]
pub fn current_integrity() -> Option<u32> {
    None
}

/// What people call a user: unknown.
#[must_use]
pub fn user_name(_user: &User) -> Option<String> {
    None
}

/// Whether an error says that the process is out of descriptors: unknown.
#[must_use]
pub fn is_descriptor_limit(_error: &io::Error) -> bool {
    false
}

/// Raises the number of descriptors that this process may have.
///
/// # Errors
///
/// Always.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    unsupported()
}

/// How many descriptors this process may have now: unknown.
#[must_use]
pub fn descriptor_limit() -> u64 {
    u64::MAX
}

/// Standard error as a file of its own.
///
/// # Errors
///
/// Always.
pub fn standard_error() -> io::Result<std::fs::File> {
    unsupported()
}

/// Whether this process was started with a standard input: not known here.
#[cfg(feature = "cli")]
#[must_use]
pub fn has_standard_input() -> bool {
    true
}

/// Whether this process was started with a standard output: not known here.
#[cfg(feature = "cli")]
#[must_use]
pub fn has_standard_output() -> bool {
    true
}

/// Takes over what asks a process to end: unknown here.
pub(crate) fn take_signals() -> io::Result<()> {
    unsupported()
}

/// Nothing was taken.
pub(crate) fn give_signals_back() {}

/// The schemes of the stream endpoints that this system has: none.
#[must_use]
pub fn stream_schemes() -> &'static [&'static str] {
    &[]
}

/// The schemes of the datagram endpoints that this system has: none.
#[must_use]
pub fn datagram_schemes() -> &'static [&'static str] {
    &[]
}

pub(crate) fn os_string(bytes: &[u8]) -> Option<OsString> {
    std::str::from_utf8(bytes).ok().map(OsString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_constructor_says_so() {
        let endpoint = "local:x".parse().unwrap();
        let options = BindOptions::default();
        for error in [
            Listener::from_owned(Owned(()), &options).unwrap_err(),
            Stream::from_owned(Owned(())).unwrap_err(),
            Channel::from_owned(Owned(())).unwrap_err(),
            Datagrams::from_owned(Owned(()), &options).unwrap_err(),
            Listener::bind(&endpoint, &options).unwrap_err(),
            Channel::connect(&endpoint, None).unwrap_err(),
            Datagrams::bind(&endpoint, &options).unwrap_err(),
            DatagramChannel::connect(&endpoint).unwrap_err(),
            ChildProcess::spawn(&mut Command::new("x")).unwrap_err(),
            ChildProcess::spawn_on_standard(&mut Command::new("x")).unwrap_err(),
            ParentChannel::take().unwrap_err(),
            PollDescriptor::of(&Poll::new().unwrap()).unwrap_err(),
            Reserve::new().unwrap_err(),
            activated().unwrap_err(),
            local_endpoints().unwrap_err(),
            tell_manager(&[]).unwrap_err(),
            Owned(()).endpoint().unwrap_err(),
            current_user().unwrap_err(),
            raise_descriptor_limit().unwrap_err(),
            standard_error().unwrap_err(),
            InstanceLock::endpoint("x").unwrap_err(),
            InstanceLock::claim("x").unwrap_err(),
            take_signals().unwrap_err(),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        }
    }
}
