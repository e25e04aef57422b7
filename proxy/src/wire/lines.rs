//! Header lines as places in the block that they arrived in: no copy, one allocation a message.

use super::{MAX_LINES, name::Name};
use bytes::Bytes;

/// Where one line lies in the block, and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    name: u16,
    name_end: u16,
    value: u16,
    value_end: u16,
    /// Its class.
    pub class: Name,
}

/// The header lines of one message.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    block: Bytes,
    places: Vec<Place>,
    /// One bit for each class that occurs.
    seen: u32,
    /// Whether every line ends in a carriage return and a line feed, so that runs of lines can be copied whole.
    clean: bool,
}

/// What `connection` lines ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Persistence {
    /// `close`.
    pub close: bool,
    /// `keep-alive`.
    pub keep_alive: bool,
}

impl Persistence {
    /// Reads one line; true when it names anything else.
    fn read(&mut self, value: &[u8]) -> bool {
        // Most lines say just this.
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
            return false;
        }
        let mut names = false;
        for item in items(value) {
            if item.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if item.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else {
                names = true;
            }
        }
        names
    }
}

/// A list of header lines under construction, over a block that is not yet frozen.
#[derive(Debug, Default)]
pub struct Places {
    places: Vec<Place>,
    seen: u32,
}

impl Places {
    /// Room for `n` lines.
    pub fn with_capacity(n: usize) -> Places {
        Places {
            places: Vec::with_capacity(n.min(MAX_LINES)),
            seen: 0,
        }
    }

    /// Adds the line whose name and value begin at these offsets; blocks are below 64 KiB.
    pub fn push(&mut self, class: Name, name: usize, name_len: usize, value: usize, value_len: usize) {
        self.seen |= 1 << class as u32;
        self.places.push(Place {
            name: name as u16,
            name_end: (name + name_len) as u16,
            value: value as u16,
            value_end: (value + value_len) as u16,
            class,
        });
    }

    /// The lines over their block, which ends in an empty line. `clean`: no line ends in a bare line feed.
    pub fn over(self, block: Bytes, clean: bool) -> Lines {
        Lines {
            clean,
            block,
            places: self.places,
            seen: self.seen,
        }
    }
}

impl Lines {
    /// Class, name and value of each line, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Name, &[u8], &[u8])> {
        self.places.iter().map(|p| {
            let name = self.part(p.name, p.name_end);
            (p.class, name, self.part(p.value, p.value_end))
        })
    }

    /// Writes the lines whose class passes.
    pub fn copy(&self, out: &mut Vec<u8>, passes: impl Fn(Name) -> bool) {
        if !self.clean {
            return self.copy_singly(out, passes);
        }
        let mut run = None;
        for place in &self.places {
            match (passes(place.class), run) {
                (true, None) => run = Some(place.name),
                (false, Some(start)) => {
                    out.extend_from_slice(self.part(start, place.name));
                    run = None;
                }
                _ => {}
            }
        }
        if let Some(start) = run {
            let end = self.block.len().saturating_sub(2);
            out.extend_from_slice(self.part(start, end as u16));
        }
    }

    fn copy_singly(&self, out: &mut Vec<u8>, passes: impl Fn(Name) -> bool) {
        for (_, name, value) in self.iter().filter(|(class, ..)| passes(*class)) {
            for part in [name, b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }

    /// As [`Lines::iter`], with values that live on by themselves.
    pub fn shared(&self) -> impl Iterator<Item = (Name, &[u8], Bytes)> {
        self.iter().map(|(class, name, value)| {
            // What is empty belongs to no block.
            let value = self.block.slice_ref(value);
            (class, name, value)
        })
    }

    /// A stretch of the block.
    pub fn part(&self, start: u16, end: u16) -> &[u8] {
        self.block
            .get(usize::from(start)..usize::from(end))
            .unwrap_or_default()
    }

    /// Whether a line of this class occurs.
    pub fn has(&self, class: Name) -> bool {
        self.seen & (1 << class as u32) != 0
    }

    /// The values of a class.
    pub fn of(&self, class: Name) -> impl Iterator<Item = &[u8]> {
        self.places
            .iter()
            .filter(move |p| p.class == class)
            .map(|p| self.part(p.value, p.value_end))
    }

    /// The values of a name, given in lower case.
    pub fn named<'a>(&'a self, lower: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(_, n, _)| n.eq_ignore_ascii_case(lower))
            .map(|(_, _, v)| v)
    }

    /// Reads the `connection` lines: what they ask for, and which lines they name as hop-by-hop.
    pub fn connection(&mut self) -> Persistence {
        let mut asked = Persistence::default();
        if !self.has(Name::Connection) {
            return asked;
        }
        let mut names = false;
        for value in self.of(Name::Connection) {
            names |= asked.read(value);
        }
        if names {
            self.nominate();
        }
        asked
    }

    /// Marks the lines that the `connection` lines name.
    fn nominate(&mut self) {
        for i in 0..self.places.len() {
            let Some(place) = self.places.get(i).copied() else {
                return;
            };
            let name = self.part(place.name, place.name_end);
            if place.class.can_be_nominated(name) && self.connection_names(name) {
                self.places[i].class = Name::Nominated;
            }
        }
    }

    /// Whether a `connection` line lists `option`, in any case.
    pub fn connection_names(&self, option: &[u8]) -> bool {
        self.of(Name::Connection)
            .flat_map(items)
            .any(|item| item.eq_ignore_ascii_case(option))
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The block that the lines lie in.
    pub fn block(&self) -> Bytes {
        self.block.clone()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

/// The items of a comma-separated list, without the space around them and without empty ones.
pub fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|i| !i.is_empty())
}

/// The places of the lines that httparse found in `head`, a whole head; and whether no line ends in a bare line feed,
/// which httparse takes for an end. A line ends where the next one's name begins.
pub fn places(head: &[u8], headers: &[httparse::Header<'_>]) -> (Places, bool) {
    let base = head.as_ptr() as usize;
    let mut out = Places::with_capacity(headers.len());
    let mut clean = head.ends_with(b"\r\n\r\n") && head.first().is_some_and(|b| *b > b'\r');
    for h in headers {
        let name = h.name.as_ptr() as usize - base;
        clean &= head.get(..name).is_some_and(|before| before.ends_with(b"\r\n"));
        let value = h.value.as_ptr() as usize - base;
        out.push(
            Name::of(h.name.as_bytes()),
            name,
            h.name.len(),
            value,
            h.value.len(),
        );
    }
    (out, clean || !has_bare_feed(head))
}

/// A content length: digits only, at most 18 of them. `None` for anything else.
pub fn length(value: &[u8]) -> Option<u64> {
    let plain = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    plain.then(|| value.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')))
}

/// The content length of a message: `Ok(None)` without one.
///
/// # Errors
/// Several lines, a list, a sign, anything but digits: whoever reads these differently can be smuggled past.
pub fn content_length(lines: &Lines) -> Result<Option<u64>, &'static str> {
    let mut values = lines.of(Name::ContentLength);
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err("several content-length lines");
    }
    length(first)
        .map(Some)
        .ok_or("content-length is not a plain number")
}

/// Whether the body is chunked: exactly one `transfer-encoding` line that says exactly `chunked`.
///
/// # Errors
/// Any other transfer coding.
pub fn chunked(lines: &Lines) -> Result<bool, &'static str> {
    let mut values = lines.of(Name::TransferEncoding);
    let Some(first) = values.next() else {
        return Ok(false);
    };
    if values.next().is_some() || !first.eq_ignore_ascii_case(b"chunked") {
        return Err("transfer-encoding is not exactly chunked");
    }
    Ok(true)
}

impl Lines {
    /// Where a value of these lines lies in the block; (0, 0) for an empty one.
    pub fn place_of(&self, value: &[u8]) -> (u16, u16) {
        if value.is_empty() {
            return (0, 0);
        }
        let start = (value.as_ptr() as usize).wrapping_sub(self.block.as_ptr() as usize);
        (start as u16, start.wrapping_add(value.len()) as u16)
    }
}

/// Takes the first `n` octets off. All of them, as usual, need no second reference.
pub fn off(input: &mut Bytes, n: usize) -> Bytes {
    if n == input.len() {
        std::mem::take(input)
    } else {
        input.split_to(n)
    }
}

/// Whether a line feed stands without its carriage return.
fn has_bare_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|i| i == 0 || head.get(i - 1) != Some(&b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether httparse takes `head`, and whether it is clean.
    fn clean(head: &str) -> Option<bool> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_LINES];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(head.as_bytes()).ok()?;
        parsed
            .is_complete()
            .then(|| places(head.as_bytes(), request.headers).1)
    }

    #[test]
    fn a_bare_line_feed_is_found_wherever_it_stands() {
        let lines = ["GET / HTTP/1.1", "Host: a", "X-Space: b \t", "X-Empty:", ""];
        let mut taken = 0;
        for bare in 0..1u32 << lines.len() {
            let end = |i: usize| if bare >> i & 1 == 1 { "\n" } else { "\r\n" };
            let head: String = lines
                .iter()
                .enumerate()
                .map(|(i, l)| format!("{l}{}", end(i)))
                .collect();
            for head in [head.clone(), format!("\r\n{head}"), format!("\n{head}")] {
                let Some(clean) = clean(&head) else { continue };
                taken += 1;
                assert_eq!(clean, !has_bare_feed(head.as_bytes()), "{head:?}");
            }
        }
        assert!(taken > 1, "httparse takes bare line feeds");
    }

    #[test]
    fn connection_lines_are_read_once() {
        let read = |values: &[&str]| {
            let mut asked = Persistence::default();
            let names = values.iter().fold(false, |n, v| asked.read(v.as_bytes()) | n);
            (asked.close, asked.keep_alive, names)
        };
        assert_eq!(read(&["Keep-Alive"]), (false, true, false));
        assert_eq!(read(&["keep-alive, Close"]), (true, true, false));
        assert_eq!(read(&["keep-alive", " close ,, x-hop"]), (true, true, true));
        assert_eq!(read(&[""]), (false, false, false));
    }
}
