//! Large payloads on their way out, which are sent from where they are and not copied.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use crate::memory::{self, NoMemory};
use crate::payload::{Home, Payload};

/// Payloads of at least so many bytes are not copied into the outbox if that can be avoided.
pub const LARGE: usize = 64 << 10;
/// Memory of more than this is not kept for the next large frame.
const KEEP_SPENT: usize = 4 << 20;

/// Whether a frame's memory is kept for the next large one.
pub(crate) fn is_worth_keeping(frame: &Vec<u8>) -> bool {
    (LARGE..=KEEP_SPENT).contains(&frame.capacity())
}

/// What stands between the bytes of an outbox, in order, and the memory of what stood there.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    queue: VecDeque<Block>,
    /// How many bytes of them have not left.
    unsent: usize,
    /// Bytes of memory that they hold.
    held: usize,
    /// Where the frame lies whose request is being handled, if a reply may have its memory.
    lent: Option<Range<usize>>,
    /// Memory of a large frame that is over, for the next one: its pages are there already.
    spent: Vec<u8>,
    owner: Owner,
}

/// Whose outbox it is, by which what is large is copied or not.
#[derive(Debug, Default)]
enum Owner {
    /// A server's on a stream: what is given stays where it is.
    #[default]
    Server,
    /// A datagram's: everything is copied, since it leaves as one piece.
    Datagram,
    /// A client's: everything is copied, since its last words leave as one piece, but for what one that waits has
    /// [lent](Blocks::borrow). Memory of large frames goes to those who get their payloads, and comes back here.
    Client(Box<Client>),
}

/// What only a client's has.
#[derive(Debug, Default)]
struct Client {
    home: Home,
    /// Which piece of the frame that is lent somebody keeps, and its memory when the handing over is done.
    piece: Option<Range<usize>>,
    frame: Vec<u8>,
}

/// One payload, or a piece of it.
#[derive(Debug)]
struct Block {
    /// It is sent behind so many bytes of the outbox.
    at: usize,
    source: Source,
    /// What is still to be sent of the source.
    rest: Range<usize>,
}

/// Whose bytes they are.
#[derive(Debug)]
enum Source {
    Own(Vec<u8>),
    /// The frame's that is being handled: it becomes ours when its handler is done.
    Lent,
    /// Somebody's who waits until it has left, and sends it himself.
    Borrowed,
}

impl Block {
    #[inline]
    fn rest(&self) -> &[u8] {
        match &self.source {
            Source::Own(bytes) => &bytes[self.rest.clone()],
            Source::Lent | Source::Borrowed => &[],
        }
    }
}

impl Blocks {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that have not left.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.unsent
    }

    /// Bytes of memory held, also for the next ones.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.held + self.spent.capacity() + self.client().map_or(0, |client| client.home.capacity())
    }

    /// Behind how many bytes of the outbox the first one is sent.
    #[inline]
    pub(crate) fn first_at(&self) -> Option<usize> {
        self.queue.front().map(|block| block.at)
    }

    /// What is to be sent of the first one.
    pub(crate) fn first(&self) -> &[u8] {
        self.queue.front().map_or(&[], Block::rest)
    }

    /// From now on none are taken.
    #[inline]
    pub(crate) fn copy_all(&mut self) {
        self.owner = Owner::Datagram;
    }

    /// They are a client's.
    pub(crate) fn serve_client(&mut self) {
        self.owner = Owner::Client(Box::default());
    }

    /// Whether whoever has a payload copies it into the outbox.
    #[inline]
    pub(crate) fn are_copied(&self) -> bool {
        !matches!(self.owner, Owner::Server)
    }

    fn client(&self) -> Option<&Client> {
        match &self.owner {
            Owner::Client(client) => Some(client),
            Owner::Server | Owner::Datagram => None,
        }
    }

    fn client_mut(&mut self) -> Option<&mut Client> {
        match &mut self.owner {
            Owner::Client(client) => Some(client),
            Owner::Server | Owner::Datagram => None,
        }
    }

    /// Takes all of `bytes`, to be sent behind `at` bytes of the outbox. Where there is no memory for the note of it
    /// they are gone.
    pub(crate) fn give(&mut self, at: usize, bytes: Vec<u8>) -> Result<(), NoMemory> {
        self.reserve()?;
        let rest = 0..bytes.len();
        self.unsent += rest.len();
        self.held += bytes.capacity();
        self.queue.push_back(Block { at, source: Source::Own(bytes), rest });
        Ok(())
    }

    /// Somebody sends so many bytes himself, behind `at` bytes of the outbox. There is [room](Blocks::reserve) for it.
    pub(crate) fn borrow(&mut self, at: usize, length: usize) {
        self.unsent += length;
        self.queue.push_back(Block { at, source: Source::Borrowed, rest: 0..length });
    }

    /// Behind how many bytes of the outbox stands the first one, and what of it has not left, if that is borrowed.
    pub(crate) fn borrowed(&self) -> Option<(usize, Range<usize>)> {
        let block = self.queue.front().filter(|block| matches!(block.source, Source::Borrowed))?;
        Some((block.at, block.rest.clone()))
    }

    /// It is not there any more.
    pub(crate) fn end_borrowing(&mut self) {
        if let Some(block) = self.queue.pop_front() {
            self.end(block);
        }
    }

    /// What lies in `frame` is about to be handled: what a request's reply takes of that need not be copied, nor what is kept
    /// of a reply.
    pub(crate) fn lend(&mut self, frame: &[u8]) {
        let start = frame.as_ptr().addr();
        self.lent = Some(start..start + frame.len());
    }

    /// Takes `bytes` as a piece of the frame that is lent, if they are. Once: what is sent twice is copied.
    pub(crate) fn give_back(&mut self, at: usize, bytes: &[u8]) -> bool {
        let Some(rest) = self.piece_of_lent(bytes).filter(|_| !self.are_copied()) else { return false };
        if self.reserve().is_err() {
            return false;
        }
        self.lent = None;
        self.unsent += rest.len();
        self.queue.push_back(Block { at, source: Source::Lent, rest });
        true
    }

    /// Whoever is handed `bytes` keeps them, if they are a piece of the frame that is lent: [`take_frame`](Blocks::take_frame)
    /// then gives them. Not where another one was not taken yet, nor where it would not come back.
    pub(crate) fn keep_piece(&mut self, bytes: &[u8]) -> bool {
        let piece = self.piece_of_lent(bytes);
        let Some(client) = self.client_mut().filter(|client| client.piece.is_none()) else { return false };
        client.piece = piece;
        client.piece.is_some()
    }

    /// What is kept of the last frame.
    pub(crate) fn take_frame(&mut self) -> Option<Payload> {
        let client = self.client_mut()?;
        let piece = client.piece.take()?;
        Some(client.home.payload(std::mem::take(&mut client.frame), piece))
    }

    /// Where they lie in the frame that is lent, if they do.
    fn piece_of_lent(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let frame = self.lent.as_ref()?;
        let start = bytes.as_ptr().addr().checked_sub(frame.start)?;
        Some(start..start + bytes.len()).filter(|piece| piece.end <= frame.len())
    }

    /// It has been handled: the frame becomes the reply's that took a piece of it, or his who keeps one.
    pub(crate) fn end_lending(&mut self, frame: &mut Vec<u8>) {
        self.lent = None;
        if let Some(client) = self.client_mut() {
            if client.piece.is_some() && client.frame.is_empty() {
                client.frame = std::mem::take(frame);
            }
            return;
        }
        let taken = self.queue.iter_mut().rev().find(|block| matches!(block.source, Source::Lent));
        if let Some(block) = taken {
            let frame = std::mem::take(frame);
            self.held += frame.capacity();
            block.source = Source::Own(frame);
        }
    }

    /// How many bytes stand behind `start` bytes of the outbox.
    pub(crate) fn len_behind(&self, start: usize) -> usize {
        self.queue.iter().rev().take_while(|block| block.at >= start).map(|block| block.rest.len()).sum()
    }

    /// Throws away what stands behind `start` bytes of the outbox.
    pub(crate) fn cut(&mut self, start: usize) {
        while self.queue.back().is_some_and(|block| block.at >= start)
            && let Some(block) = self.queue.pop_back()
        {
            self.end(block);
        }
    }

    /// At most `count` more bytes of the first one have left. Says how many.
    pub(crate) fn advance(&mut self, count: usize) -> usize {
        let Some(block) = self.queue.front_mut() else { return 0 };
        let count = count.min(block.rest.len());
        block.rest.start += count;
        self.unsent -= count;
        if block.rest.is_empty()
            && let Some(block) = self.queue.pop_front()
        {
            self.end(block);
        }
        count
    }

    /// So many bytes were put behind the first `start` of the outbox.
    pub(crate) fn move_behind(&mut self, start: usize, count: usize) {
        for block in self.queue.iter_mut().rev().take_while(|block| block.at >= start) {
            block.at += count;
        }
    }

    /// So many bytes of the outbox are there no more.
    pub(crate) fn shift(&mut self, count: usize) {
        for block in &mut self.queue {
            block.at -= count;
        }
    }

    /// Puts the pieces that come next into `pieces`: `bytes` are the outbox's, of which `sent` have left. Says how many.
    pub(crate) fn gather<'a>(
        &'a self,
        bytes: &'a [u8],
        mut sent: usize,
        pieces: &mut [IoSlice<'a>],
    ) -> usize {
        let mut count = 0;
        let mut push = |piece: &'a [u8]| {
            if !piece.is_empty()
                && let Some(place) = pieces.get_mut(count)
            {
                *place = IoSlice::new(piece);
                count += 1;
            }
        };
        for block in &self.queue {
            push(&bytes[sent..block.at]);
            push(block.rest());
            sent = block.at;
        }
        push(&bytes[sent..]);
        count
    }

    /// Keeps the memory of a frame that is over for the next one, if it has the right size.
    pub(crate) fn keep(&mut self, mut frame: Vec<u8>) {
        if let Some(client) = self.client() {
            return client.home.keep(frame);
        }
        if is_worth_keeping(&frame) && frame.capacity() > self.spent.capacity() {
            frame.clear();
            self.spent = frame;
        }
    }

    /// Moves `frame`, of which more is to come, to memory that was kept, if that is more than it has.
    pub(crate) fn reuse(&mut self, frame: &mut Vec<u8>) {
        if let Some(mut kept) = self.take_kept(frame.capacity() + 1) {
            kept.extend_from_slice(frame);
            *frame = kept;
        }
    }

    /// Memory that was kept, if it is at least so much.
    pub(crate) fn take_kept(&mut self, at_least: usize) -> Option<Vec<u8>> {
        match self.client() {
            Some(client) => client.home.take(at_least),
            None => (self.spent.capacity() >= at_least).then(|| std::mem::take(&mut self.spent)),
        }
    }

    fn end(&mut self, block: Block) {
        self.unsent -= block.rest.len();
        if let Source::Own(bytes) = block.source {
            self.held -= bytes.capacity();
            self.keep(bytes);
        }
    }

    /// Makes room for one more.
    pub(crate) fn reserve(&mut self) -> Result<(), NoMemory> {
        memory::reserve_entries(&mut self.queue, 1)
    }
}
