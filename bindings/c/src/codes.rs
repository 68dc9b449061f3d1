//! The numbers that both sides know.

/// How a function has ended: SW_OK, SW_END, SW_NOT_YET, or a failure.
pub type Status = i32;

/// Done.
pub const SW_OK: Status = 0;
/// Done, and behind this there is nothing more.
pub const SW_END: Status = 1;
/// The time that was given is over, and nothing has come. No failure.
pub const SW_NOT_YET: Status = 2;
/// It was asked for something that can't be: NULL, text that is not UTF-8, a bad endpoint, an object that another
/// thread is using.
pub const SW_INVALID: Status = 10;
/// This system does not have that.
pub const SW_UNSUPPORTED: Status = 11;
/// Another server that lives holds the endpoint.
pub const SW_IN_USE: Status = 12;
/// Nobody listens there.
pub const SW_NOT_LISTENING: Status = 13;
/// Policy says no: the server refused us, or we the server.
pub const SW_REFUSED: Status = 14;
/// The two sides have no version of the protocol in common.
pub const SW_VERSION: Status = 15;
/// The time was up. A request that was on its way may have been executed.
pub const SW_TIMED_OUT: Status = 16;
/// The other side has gone: see sw_error_executed.
pub const SW_PEER_GONE: Status = 17;
/// This side has closed the connection.
pub const SW_CLOSED: Status = 18;
/// Too much waits already; later it may work.
pub const SW_FULL: Status = 19;
/// Our own server has stopped.
pub const SW_STOPPED: Status = 20;
/// The other side broke the protocol.
pub const SW_PROTOCOL: Status = 21;
/// The other side said no, with a result code: see sw_error_rc.
pub const SW_ANSWERED: Status = 22;
/// Nobody waits for this answer any more.
pub const SW_UNWANTED: Status = 23;
/// The operating system failed.
pub const SW_SYSTEM: Status = 24;
/// This library failed where it should not; the log of the program (standard error) says where.
pub const SW_PANIC: Status = 25;

/// Result codes of a request: 0 is fine, above 0 are the application's, -1 to -999 Sidewire's.
pub const SW_RC_OK: i32 = 0;
/// The type lies beyond the server's table.
pub const SW_RC_UNKNOWN_TYPE: i32 = -1;
/// There is no handler for this type.
pub const SW_RC_NO_HANDLER: i32 = -2;
/// The request or the reply is larger than the other side takes.
pub const SW_RC_TOO_LARGE: i32 = -3;
/// The bytes are not what they should be.
pub const SW_RC_MALFORMED: i32 = -4;
/// The peer may not do that.
pub const SW_RC_NOT_PERMITTED: i32 = -5;
/// A limit is reached; later it may work.
pub const SW_RC_BUSY: i32 = -6;
/// A time limit has passed.
pub const SW_RC_TIMED_OUT: i32 = -7;
/// The caller has cancelled.
pub const SW_RC_CANCELLED: i32 = -8;
/// The server ends.
pub const SW_RC_SHUTTING_DOWN: i32 = -9;
/// The handler failed.
pub const SW_RC_HANDLER_FAILED: i32 = -10;
/// The two sides have no version in common.
pub const SW_RC_NO_COMMON_VERSION: i32 = -11;
/// One side asks for a feature that the other does not have.
pub const SW_RC_FEATURE_MISSING: i32 = -12;
/// No result code of anybody: what NULL is said to have answered.
pub const SW_RC_NONE: i32 = -1000;

/// In place of milliseconds: no time limit.
pub const SW_NO_TIMEOUT: u32 = 0xFFFF_FFFF;
/// In place of milliseconds: what the client's options say, or the usual time.
pub const SW_DEFAULT_TIMEOUT: u32 = 0xFFFF_FFFE;

/// Who may be at the other end: processes of the same user, by the kernel's word. The default.
pub const SW_ACCESS_SAME_USER: u32 = 0;
/// Anybody who reaches the endpoint. TCP needs this or a token.
pub const SW_ACCESS_ANYONE: u32 = 1;
/// Processes of the same user that run the program that this process runs. It keeps programs apart, not those who run
/// them.
pub const SW_ACCESS_SAME_PROGRAM: u32 = 2;

/// What becomes of an event for a subscriber that reads too slowly: it is dropped, and counted.
pub const SW_SLOW_DROP_NEWEST: u32 = 0;
/// It takes the place of an older one: the last always arrives.
pub const SW_SLOW_KEEP_LATEST: u32 = 1;
/// The connection ends.
pub const SW_SLOW_DISCONNECT: u32 = 2;
