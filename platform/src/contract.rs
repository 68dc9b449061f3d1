//! The contract as the compiler reads it: every exported signature, as a constant of its type.
//!
//! Each implementation (`unix/mod.rs`, `windows/mod.rs`, `unsupported.rs`) has this file as a module
//! of its own and is held against it wherever it is compiled, so that a change on one side fails on
//! the others until they and this file have followed. What the functions do stands in `lib.rs` and on
//! the functions.

use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use mio::{Interest, Token};

use super::{
    Attachment, Channel, ChildProcess, DatagramChannel, Datagrams, Event, Events, Executable,
    ExpectedProcess, ForeignProcess, InstanceLock, Listener, Mapped, Owned, ParentChannel, PeerProcess, Poll,
    PollDescriptor, Program, Registry, Reserve, StartLock, Started, Stream, Waker,
};
use crate::{
    Address, BindOptions, Busy, Carried, Claim, Endpoint, Group, Notice, Peer, Received, Recording,
    RecordingFile, Ring, SendBuffer, StopSignals, User,
};

/// What threads may do: hand each of these to another thread, and share it, wherever we run.
const _: () = {
    const fn is_shared<T: Send + Sync + Debug + 'static>() {}
    is_shared::<Listener>();
    is_shared::<Stream>();
    is_shared::<Channel>();
    is_shared::<Datagrams>();
    is_shared::<DatagramChannel>();
    is_shared::<ChildProcess>();
    is_shared::<ParentChannel>();
    is_shared::<Executable>();
    is_shared::<ExpectedProcess>();
    is_shared::<ForeignProcess>();
    is_shared::<Owned>();
    is_shared::<Attachment>();
    is_shared::<PeerProcess>();
    is_shared::<Poll>();
    is_shared::<Registry>();
    is_shared::<Events>();
    is_shared::<Event>();
    is_shared::<Waker>();
    is_shared::<PollDescriptor>();
    is_shared::<Program>();
    is_shared::<Started>();
    is_shared::<StartLock>();
    is_shared::<InstanceLock>();
    is_shared::<Recording>();
    is_shared::<RecordingFile>();
    is_shared::<Reserve>();
    is_shared::<StopSignals>();
};

type TakeOver = fn(&Endpoint, &BindOptions, &Channel, Option<Owned>) -> io::Result<Listener>;
type ReadAttached = fn(&mut Stream, &mut [u8]) -> io::Result<(usize, Carried)>;
type RecvAttached = fn(&Channel, &mut [u8], Option<Duration>) -> io::Result<(usize, Carried)>;
type SendAttached = fn(&Channel, &[u8], &[Attachment], Option<Duration>) -> io::Result<usize>;
type RecvPassed = fn(&Channel, &mut [u8], Option<Duration>) -> io::Result<(usize, Option<Owned>)>;

const _: fn(&Endpoint, &BindOptions) -> io::Result<Listener> = Listener::bind;
const _: fn(Owned, &BindOptions) -> io::Result<Listener> = Listener::from_owned;
const _: fn(&Endpoint) -> bool = Listener::is_gone;
const _: fn(&Listener) -> &Endpoint = Listener::endpoint;
const _: fn(&Listener) -> io::Result<Address> = Listener::local_address;
const _: fn(&mut Listener, &Registry, Token) -> io::Result<()> = Listener::register;
const _: fn(&mut Listener, &Registry) -> io::Result<()> = Listener::deregister;
const _: fn(&Listener) -> bool = Listener::can_be_lost;
const _: fn(&mut Listener, &Registry, Token) -> io::Result<bool> = Listener::renew;
const _: fn(&mut Listener, &Registry, Token) -> io::Result<Stream> = Listener::accept;
const _: fn(&mut Listener, &Registry) = Listener::withdraw;
const _: fn(&Listener, &Stream, &[u8]) -> io::Result<usize> = Listener::pass;
const _: fn(&mut Listener, &Registry) = Listener::hand_on;
const _: TakeOver = Listener::take_over;
const _: fn(&mut Listener, &BindOptions) -> io::Result<()> = Listener::own;

const _: bool = Stream::SHORT_READ_DRAINS;
const _: fn(Owned) -> io::Result<Stream> = Stream::from_owned;
const _: fn(&mut Stream, &Registry, Token, Interest) -> io::Result<()> = Stream::register;
const _: fn(&mut Stream, &Registry, Token, Interest) -> io::Result<()> = Stream::reregister;
const _: fn(&mut Stream, &Registry) -> io::Result<()> = Stream::deregister;
const _: fn(&mut Stream, &mut [u8]) -> io::Result<usize> = Stream::read;
const _: fn(&mut Stream, &mut Vec<u8>, usize) -> io::Result<usize> = Stream::read_append;
const _: fn(&mut Stream, &[u8]) -> io::Result<usize> = Stream::write;
const _: fn(&mut Stream, &[io::IoSlice<'_>]) -> io::Result<usize> = Stream::write_vectored;
const _: ReadAttached = Stream::read_attached;
const _: fn(&mut Stream, &[io::IoSlice<'_>], &[Attachment]) -> io::Result<usize> = Stream::write_attached;
const _: fn(&Stream) -> bool = Stream::has_half_close;
const _: fn(&Stream) -> bool = Stream::is_connected;
const _: fn(&mut Stream) -> io::Result<()> = Stream::shutdown_write;
const _: fn(&Stream) -> io::Result<Peer> = Stream::peer;
const _: fn(&Stream, &[Group]) -> io::Result<bool> = Stream::is_member;
const _: fn(&Stream) -> io::Result<Executable> = Stream::executable;
const _: fn(&Stream) -> io::Result<Address> = Stream::local_address;
const _: fn(&Stream) -> io::Result<Address> = Stream::peer_address;
const _: fn(Stream, Duration) = Stream::close_flushed;
const _: fn(Stream) = Stream::abort;

const _: fn(&Endpoint, Option<Duration>) -> io::Result<Channel> = Channel::connect;
const _: fn(Owned) -> io::Result<Channel> = Channel::from_owned;
const _: fn(&Channel) -> &Peer = Channel::peer;
const _: fn(&Channel, &[Group]) -> io::Result<bool> = Channel::is_member;
const _: fn(&Channel) -> io::Result<Executable> = Channel::executable;
const _: fn(&Channel) -> io::Result<PollDescriptor> = Channel::poll_descriptor;
const _: fn(&Channel) -> io::Result<Address> = Channel::local_address;
const _: fn(&Channel) -> io::Result<Address> = Channel::peer_address;
const _: fn(&Channel, &mut [u8], Option<Duration>) -> io::Result<usize> = Channel::recv;
const _: fn(&Channel, &mut Vec<u8>, usize, Option<Duration>) -> io::Result<usize> = Channel::recv_append;
const _: fn(&mut Channel, Duration) = Channel::spin;
const _: fn(&Channel) = Channel::expect_passed;
const _: RecvPassed = Channel::recv_passed;
const _: fn(&Channel, &[u8], Option<Duration>) -> io::Result<usize> = Channel::send;
const _: SendPieces = Channel::send_pieces;
const _: fn(&Channel) = Channel::expect_attachments;
const _: RecvAttached = Channel::recv_attached;
const _: SendAttached = Channel::send_attached;
const _: fn(&Channel) -> bool = Channel::has_half_close;
const _: fn(&Channel) -> io::Result<()> = Channel::shutdown_write;
const _: fn(&Channel) = Channel::shutdown;
const _: fn(&Channel) = Channel::hang_up;

#[cfg(feature = "tokio")]
const _: () = {
    use std::task::{Context, Poll};

    const fn is_shared<T: Send + Sync + Debug + 'static>() {}
    is_shared::<super::AsyncChannel>();
    const _: fn(Channel) -> io::Result<super::AsyncChannel> = super::AsyncChannel::new;
    const _: fn(&super::AsyncChannel) -> &Peer = super::AsyncChannel::peer;
    const _: fn(&super::AsyncChannel) -> io::Result<Address> = super::AsyncChannel::local_address;
    const _: fn(&super::AsyncChannel) -> io::Result<Address> = super::AsyncChannel::peer_address;
    const _: fn(&super::AsyncChannel, &mut [u8]) -> io::Result<usize> = super::AsyncChannel::recv_now;
    const _: fn(&super::AsyncChannel, &mut Context<'_>, &mut [u8]) -> Poll<io::Result<usize>> =
        super::AsyncChannel::poll_recv;
    const _: fn(&super::AsyncChannel, &[u8]) -> io::Result<usize> = super::AsyncChannel::send_now;
    const _: fn(&super::AsyncChannel, &mut Context<'_>, &[u8]) -> Poll<io::Result<usize>> =
        super::AsyncChannel::poll_send;
    const _: fn(&super::AsyncChannel) = super::AsyncChannel::shutdown;
    const _: fn(&super::AsyncChannel) = super::AsyncChannel::hang_up;
    is_shared::<super::AsyncPoll>();
    const _: fn(&super::Poll) -> io::Result<super::AsyncPoll> = super::AsyncPoll::of;
    const _: fn(&super::AsyncPoll, &mut Context<'_>) -> Poll<io::Result<()>> = super::AsyncPoll::poll_ready;
};

const _: fn() -> io::Result<()> = Executable::can_be_told;
const _: fn(&Path) -> io::Result<Executable> = Executable::at;
const _: fn() -> io::Result<Executable> = Executable::own;
const _: fn(&Executable) -> &Path = Executable::path;
const _: fn(&Executable, &Executable) -> bool = Executable::is_same;

type SendPieces = fn(&Channel, &[io::IoSlice<'_>], Option<Duration>) -> io::Result<usize>;
type Ready = Box<dyn Fn() + Send + Sync>;

const _: fn(&Endpoint, &BindOptions) -> io::Result<Datagrams> = Datagrams::bind;
const _: fn(Owned, &BindOptions) -> io::Result<Datagrams> = Datagrams::from_owned;
const _: fn(&Datagrams) -> &Endpoint = Datagrams::endpoint;
const _: fn(&mut Datagrams, &Registry, Token, Ready) -> io::Result<()> = Datagrams::register;
const _: fn(&mut Datagrams, &Registry) -> io::Result<()> = Datagrams::deregister;
const _: fn(&Datagrams) -> bool = Datagrams::can_be_lost;
const _: fn(&mut Datagrams, &Registry, Token) -> io::Result<bool> = Datagrams::renew;
const _: fn(&mut Datagrams, &mut [u8]) -> io::Result<Received> = Datagrams::receive;
const _: fn(&mut Datagrams, &[u8], &Address, Option<&User>) -> io::Result<()> = Datagrams::send;
const _: fn(&Datagrams) -> Option<SendBuffer> = Datagrams::send_buffer;

const _: fn(&Endpoint) -> io::Result<DatagramChannel> = DatagramChannel::connect;
const _: fn(&DatagramChannel) -> &Peer = DatagramChannel::peer;
const _: fn(&DatagramChannel) -> bool = DatagramChannel::is_elsewhere;
const _: fn(&DatagramChannel) -> io::Result<Address> = DatagramChannel::local_address;
const _: fn(&DatagramChannel) -> io::Result<Address> = DatagramChannel::peer_address;
const _: fn(&DatagramChannel, &[u8], Option<Duration>) -> io::Result<()> = DatagramChannel::send;
const _: fn(&DatagramChannel, &mut [u8], Option<Duration>) -> io::Result<Received> = DatagramChannel::receive;

const _: fn(&mut Command) -> io::Result<ChildProcess> = ChildProcess::spawn;
const _: fn(&mut Command) -> io::Result<ChildProcess> = ChildProcess::spawn_on_standard;
const _: fn(&ChildProcess) -> u32 = ChildProcess::id;
const _: fn(&ChildProcess, Option<Duration>) -> io::Result<Channel> = ChildProcess::channel;
const _: fn(&mut ChildProcess) -> Option<File> = ChildProcess::take_stdout;
const _: fn(&mut ChildProcess) -> Option<File> = ChildProcess::take_stderr;
const _: fn(&ChildProcess, Option<Duration>) -> io::Result<Option<ExitStatus>> = ChildProcess::wait;
const _: fn(&ChildProcess) -> io::Result<()> = ChildProcess::terminate;
const _: fn(&ChildProcess) -> io::Result<()> = ChildProcess::kill;

type OnDeath = Box<dyn FnOnce() + Send>;

const _: fn() -> io::Result<Option<ParentChannel>> = ParentChannel::take;
const _: fn(&ParentChannel) -> u32 = ParentChannel::parent;
const _: fn(ParentChannel) -> io::Result<Channel> = ParentChannel::into_channel;
const _: fn(ParentChannel) -> io::Result<Stream> = ParentChannel::into_stream;
const _: fn(&mut ParentChannel, OnDeath) -> io::Result<()> = ParentChannel::watch;

/// Besides, it comes from what the system has: `OwnedFd`; `OwnedHandle`, `OwnedSocket`.
const _: () = {
    const fn comes_from<T>()
    where
        Owned: From<T>,
    {
    }
    comes_from::<std::net::TcpStream>();
    comes_from::<std::net::TcpListener>();
    comes_from::<std::net::UdpSocket>();
};
/// The same of an attachment: `OwnedFd`; `OwnedHandle`.
const _: fn(File) -> Attachment = Attachment::from;
const _: fn(Attachment) -> File = Attachment::into_file;
const _: bool = Attachment::ARE_NAMED;
const _: fn(&Attachment) -> io::Result<u32> = Attachment::name;
const _: fn(&Endpoint) -> bool = super::carries_attachments;
const _: fn(Vec<Attachment>) = super::close_aside;
const _: fn(&Peer) -> io::Result<PeerProcess> = PeerProcess::of;
const _: fn(&PeerProcess, &[u32]) -> io::Result<Vec<Attachment>> = PeerProcess::fetch;
const _: fn(&Owned) -> String = ToString::to_string;
const _: fn(&Owned) -> io::Result<Endpoint> = Owned::endpoint;

const _: fn() -> io::Result<Poll> = Poll::new;
const _: fn(&Poll) -> &Registry = Poll::registry;
const _: fn(&mut Poll, &mut Events, Option<Duration>) -> io::Result<()> = Poll::poll;
const _: fn(&Registry) -> io::Result<Registry> = Registry::try_clone;
const _: fn(usize) -> Events = Events::with_capacity;
const _: fn(&Events) -> bool = Events::is_empty;
/// `iter` has a type of the system's own.
const _: () = {
    type List<'e> = <&'e Events as IntoIterator>::IntoIter;
    const _: for<'e> fn(&'e Events) -> List<'e> = Events::iter;
};
const _: fn(&Event) -> Token = Event::token;
const _: fn(&Event) -> bool = Event::is_readable;
const _: fn(&Event) -> bool = Event::is_writable;
const _: fn(&Event) -> bool = Event::is_read_closed;
const _: fn(&Event) -> bool = Event::is_error;
const _: fn(&Registry, Token) -> io::Result<Waker> = Waker::new;
const _: fn(&Waker) -> io::Result<()> = Waker::wake;
const _: fn(&Poll) -> io::Result<PollDescriptor> = PollDescriptor::of;

const _: fn() -> io::Result<Vec<(String, Owned)>> = super::activated;
const _: fn(&[Notice<'_>]) -> io::Result<bool> = super::tell_manager;

const _: fn(Command) -> Program = Program::new;
const _: fn(&Program) -> String = Program::name;
const _: fn(&mut Program) -> io::Result<Started> = Program::start;
const _: fn(&Started) -> u32 = Started::pid;
const _: fn(&mut Started) -> io::Result<Option<ExitStatus>> = Started::try_wait;
const _: fn(&mut Started) -> io::Result<()> = Started::kill;
const _: fn(&Channel) -> io::Result<ExpectedProcess> = ExpectedProcess::at;
const _: fn(&ExpectedProcess, &Channel, Option<Duration>) -> io::Result<ForeignProcess> =
    ExpectedProcess::meet;
const _: &str = ForeignProcess::REQUEST;
const _: fn(&ForeignProcess) -> u32 = ForeignProcess::id;
const _: fn(&ForeignProcess) -> &User = ForeignProcess::user;
const _: fn(&ForeignProcess) -> io::Result<()> = ForeignProcess::ask_to_end;
const _: fn(&ForeignProcess, Option<Duration>) -> io::Result<bool> = ForeignProcess::wait;
const _: fn() -> io::Result<Vec<Endpoint>> = super::local_endpoints;

const _: fn(&Endpoint) -> io::Result<Result<StartLock, Busy>> = StartLock::try_acquire;
const _: fn(&StartLock, Busy) = StartLock::tell;

const _: fn(&str) -> io::Result<Claim> = InstanceLock::claim;
const _: fn(&str) -> io::Result<Endpoint> = InstanceLock::endpoint;
const _: fn(u32) -> bool = super::allow_foreground;
const _: fn(&OsStr) -> Vec<u8> = super::encode_text;
const _: fn(&[u8]) -> Option<OsString> = super::decode_text;

const _: fn(&Path, &[u8]) -> io::Result<()> = super::create_private_file;
const _: fn(&Path, usize) -> io::Result<Vec<u8>> = super::read_private_file;

const _: fn() -> Recording = Recording::in_memory;
const _: fn(&str, &[u8]) -> io::Result<Recording> = Recording::create;
const _: fn(&Recording) -> &Ring = Recording::ring;
const _: fn(&Recording) -> Option<&Path> = Recording::path;
const _: fn(&Recording, &[u8]) -> io::Result<()> = Recording::describe;
const _: fn(&str, &[u8]) -> io::Result<Mapped> = Mapped::create;
const _: fn(&Mapped) -> &Ring = Mapped::ring;
const _: fn(&Mapped) -> &Path = Mapped::path;
const _: fn(&Mapped, &[u8]) -> io::Result<()> = Mapped::describe;
const _: fn(Option<u32>) -> Vec<RecordingFile> = super::recordings;

const _: fn() -> io::Result<Reserve> = Reserve::new;
const _: fn() -> io::Result<User> = super::current_user;
const _: fn() -> Option<u32> = super::current_integrity;
const _: fn(&User) -> Option<String> = super::user_name;
const _: fn(&io::Error) -> bool = super::is_descriptor_limit;
const _: fn() -> io::Result<u64> = super::raise_descriptor_limit;
const _: fn() -> u64 = super::descriptor_limit;
const _: fn() -> io::Result<File> = super::standard_error;
const _: fn() -> &'static [&'static str] = super::stream_schemes;
const _: fn() -> &'static [&'static str] = super::datagram_schemes;
#[cfg(feature = "cli")]
const _: fn() -> bool = super::has_standard_input;
#[cfg(feature = "cli")]
const _: fn() -> bool = super::has_standard_output;

// What the files above the systems need of them.
const _: fn() -> io::Result<()> = super::take_signals;
const _: fn() = super::give_signals_back;
const _: fn(&[u8]) -> Option<std::ffi::OsString> = super::os_string;
