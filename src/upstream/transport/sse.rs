//! Server-sent events as they arrive (WHATWG HTML §9.2), the data passed on as the bytes received.

use bytes::{Buf as _, Bytes, BytesMut};

use tokio::time::Instant;

use crate::{
    mcp::lenient::BYTE_ORDER_MARK,
    upstream::transport::noise::{LINE_BYTES, Noise},
};

/// Lines of an event that are not its data: with more of them than this it is noise, whatever comes
/// after them.
const ASIDE_BYTES: usize = 64 << 10;

/// An event of a stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Frame {
    /// `message` where the stream names none.
    pub event: Option<String>,
    pub id: Option<String>,
    pub retry_ms: Option<u64>,
    pub data: Bytes,
}

impl Frame {
    /// Whether it is one that can hold a message. Servers also send `ping` and the like.
    pub fn is_message(&self) -> bool {
        self.event.as_deref().is_none_or(|event| event.is_empty() || event == "message")
    }
}

/// Takes bytes, gives events.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    frame: Frame,
    has_data: bool,
    /// The data so far, once it has more than one line; a single line is a slice of what came.
    lines: BytesMut,
    /// The last line ended with `\r`; a `\n` that follows belongs to it.
    after_return: bool,
    /// The stream has begun: a byte order mark is no longer passed over.
    begun: bool,
    /// The first bytes of the buffer, in which no line ends.
    looked: usize,
    frame_bytes_max: usize,
    /// Boxed: it is looked at where something is wrong, and what reads streams is to stay small.
    noise: Option<Box<Noise>>,
    /// Bytes and lines of the present event that are not its data.
    aside: usize,
}

/// Why a stream is not read any further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamError {
    /// An event, or what it has so far, is larger than it may be.
    TooLarge,
    /// Too much of the stream is no message; it says how much, and which key bounds it.
    Noisy(String),
}

impl Decoder {
    pub fn new(frame_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            frame: Frame::default(),
            has_data: false,
            lines: BytesMut::new(),
            after_return: false,
            begun: false,
            looked: 0,
            frame_bytes_max,
            noise: None,
            aside: 0,
        }
    }

    /// Bounds the comments and events without data of the stream.
    pub fn bounded(self, noise: Noise) -> Self {
        Self { noise: Some(Box::new(noise)), ..self }
    }

    /// Counts what of the stream turned out to be no message; nothing where that is no byte.
    ///
    /// # Errors
    /// Where that was too much.
    pub fn waste(&mut self, bytes: usize) -> Result<(), StreamError> {
        let noise = self.noise.as_mut().filter(|_| bytes != 0);
        match noise.and_then(|noise| noise.heard(bytes, Instant::now())) {
            Some(why) => Err(StreamError::Noisy(why)),
            None => Ok(()),
        }
    }

    /// Bytes that it holds of what is not whole yet.
    pub fn held(&self) -> usize {
        self.buffer.len() + self.lines.len() + self.frame.data.len()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event, if it is there. Events without data are given too: their id and
    /// `retry` count.
    ///
    /// # Errors
    /// Where an event is too large, or too much of the stream is no message.
    pub fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        while let Some(line) = self.line() {
            let is_data = self.field(&line);
            if self.frame_bytes_max < self.frame.data.len().max(self.lines.len()) {
                return Err(StreamError::TooLarge);
            }
            // The end of an event costs nothing: what is no event at all ends with every line.
            let ends = line.is_empty() && self.has_data;
            if !is_data && !ends {
                self.aside += line.len().max(LINE_BYTES);
            }
            if ASIDE_BYTES < self.aside || line.is_empty() && !self.has_data {
                let aside = std::mem::take(&mut self.aside);
                self.waste(aside)?;
            }
            if !line.is_empty() {
                continue;
            }
            self.aside = 0;
            self.has_data = false;
            let mut frame = std::mem::take(&mut self.frame);
            if !self.lines.is_empty() {
                frame.data = self.lines.split().freeze();
            }
            if frame != Frame::default() {
                return Ok(Some(frame));
            }
        }
        if self.frame_bytes_max < self.buffer.len() { Err(StreamError::TooLarge) } else { Ok(None) }
    }

    fn line(&mut self) -> Option<Bytes> {
        if !self.begun {
            if self.buffer.len() < BYTE_ORDER_MARK.len()
                && BYTE_ORDER_MARK.starts_with(&self.buffer)
            {
                return None; // it may be cut in two
            }
            self.begun = true;
            if self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.buffer.advance(BYTE_ORDER_MARK.len());
            }
        }
        if self.after_return && self.buffer.first() == Some(&b'\n') {
            self.buffer.advance(1);
            self.after_return = false;
        }
        let rest = self.buffer.get(self.looked..).unwrap_or_default();
        let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
            self.looked = self.buffer.len();
            return None;
        };
        let end = std::mem::take(&mut self.looked) + end;
        let line = self.buffer.split_to(end).freeze();
        self.after_return = self.buffer.first() == Some(&b'\r');
        self.buffer.advance(1);
        Some(line)
    }

    /// Whether it is data.
    fn field(&mut self, line: &Bytes) -> bool {
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let mut value = line.slice((colon + 1).min(line.len())..);
        if value.first() == Some(&b' ') {
            value.advance(1);
        }
        let text = || String::from_utf8_lossy(&value).into_owned();
        let name = line.get(..colon);
        match name {
            Some(b"data") if self.has_data => {
                if self.lines.is_empty() {
                    self.lines.extend_from_slice(&self.frame.data);
                }
                self.lines.extend_from_slice(b"\n");
                self.lines.extend_from_slice(&value);
            }
            Some(b"data") => {
                self.frame.data = value;
                self.has_data = true;
            }
            Some(b"id") if !value.contains(&0) => self.frame.id = Some(text()),
            Some(b"event") => self.frame.event = Some(text()),
            Some(b"retry") => self.frame.retry_ms = text().parse().ok(),
            _ => (),
        }
        name == Some(b"data")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(decoder: &mut Decoder) -> Vec<Frame> {
        std::iter::from_fn(|| decoder.next().unwrap()).collect()
    }

    #[test]
    fn events_have_their_fields() {
        let mut decoder = Decoder::new(100);
        decoder.push(b": hello\n\nid: 7\nretry: 250\ndata:\n\n");
        decoder.push(b"event: message\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nda");
        let got = frames(&mut decoder);
        assert_eq!(got[0], Frame { id: Some("7".into()), retry_ms: Some(250), ..Frame::default() });
        assert_eq!(got[1].event.as_deref(), Some("message"));
        assert_eq!(&got[1].data[..], b"{\"a\":\n1}");
        assert_eq!(got.len(), 2);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut decoder = Decoder::new(10);
        decoder.push(b"data: 0123456789");
        assert_eq!(decoder.next(), Err(StreamError::TooLarge));
    }

    /// Whether a stream that goes on like this is given up, within a minute and 10 MB.
    fn is_given_up(piece: &str) -> bool {
        let mut decoder = Decoder::new(1 << 20).bounded(Noise::new(1 << 20));
        let text = piece.repeat(1 + (100 << 10) / piece.len());
        for _ in 0..100 {
            decoder.push(text.as_bytes());
            loop {
                match decoder.next() {
                    Ok(Some(_)) => continue,
                    Ok(None) => break,
                    Err(StreamError::Noisy(why)) => return why.contains("noise_bytes_max"),
                    Err(StreamError::TooLarge) => return false,
                }
            }
        }
        false
    }

    #[test]
    fn a_stream_of_noise_is_given_up() {
        for noise in [
            ":\n",
            ": ping\n\n",
            "\n",
            "\r",
            "\r\n\r\n",
            "id: 1\n",
            "id: 1\n\n",
            "event: message\n\n",
            "event: ping\n: x\n",
            "retry: 1\n",
            "retry: 1\r\n\r\n",
            "unknown: x\n",
            "x\n\n",
            &format!(": {}\n", "x".repeat(10_000)),
            &format!("{}data: 1\n\n", ": x\n".repeat(1_000)),
        ] {
            assert!(is_given_up(noise), "{noise:.40}");
        }
        for message in [
            "data: {}\n\n",
            "event: message\ndata: {}\n\n",
            "event: message\nid: 1\nretry: 10\ndata: {}\n\n",
            ": x\ndata: {}\r\n\r\n",
            "data: a\ndata: b\n\n",
        ] {
            assert!(!is_given_up(message), "{message:.40}");
        }
    }

    #[test]
    fn an_event_of_many_lines_is_read_once() {
        const LINES: usize = 200_000;
        let mut decoder = Decoder::new(3 * LINES);
        decoder.push("data:\n".repeat(2).as_bytes());
        decoder.push("data: x\n".repeat(LINES).as_bytes());
        decoder.push(b"\ndata: y\n\n");
        let got = frames(&mut decoder);
        assert_eq!(got[0].data, format!("\n{}", "\nx".repeat(LINES)).as_bytes());
        assert_eq!(&got[1].data[..], b"y");
        assert_eq!(got.len(), 2);
    }

    #[test]
    fn one_mark_at_the_beginning_is_passed_over() {
        let mut decoder = Decoder::new(100);
        decoder.push("\u{feff}data: a\n\n\u{feff}data: b\n\ndata: \u{feff}c\n\n".as_bytes());
        let got = frames(&mut decoder);
        let data: Vec<_> = got.iter().map(|frame| &frame.data[..]).collect();
        assert_eq!(data, [&b"a"[..], "\u{feff}c".as_bytes()]);
    }

    /// What servers in the field send that is no message, each whole in itself.
    const JUNK: [&str; 14] = [
        ": ping\n\n",
        ":\n",
        ": {\"id\":99}\n\n",
        "\n",
        "\n\n\n",
        "event: ping\ndata: {\"id\":99}\n\n",
        "event: ping\ndata:\n\n",
        "event: endpoint\ndata: /messages\n\n",
        "id: 7\n\n",
        "retry: 10\n\n",
        "id: 8\nretry: x\n: y\n\n",
        "data: <html>\n\n",
        "data: keep\ndata: alive\n\n",
        "unknown: field\n\n",
    ];

    proptest! {
        /// Whatever a server sends between its messages, and however it is cut: the messages
        /// come, in their order and byte for byte, and nothing else does.
        #[test]
        fn junk_between_messages_hides_none_of_them(
            between in prop::collection::vec(
                prop::collection::vec(0_usize..JUNK.len(), 0..6),
                1..8,
            ),
            cuts in prop::collection::vec(1_usize..40, 1..30),
            line_end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        ) {
            let mut text = String::new();
            for (at, junk) in between.iter().enumerate() {
                junk.iter().for_each(|which| text.push_str(JUNK[*which]));
                text.push_str(&format!("data: {{\"id\":{at}}}\n\n"));
            }
            let text = text.replace('\n', line_end);
            let mut decoder = Decoder::new(1_000).bounded(Noise::new(1 << 20));
            let (mut got, mut rest) = (Vec::new(), text.as_bytes());
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break }
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                decoder.push(head);
                got.extend(frames(&mut decoder));
                rest = tail;
            }
            // What is no message may have been data all the same.
            let is_json = |frame: &Frame| frame.data.starts_with(b"{\"id\"");
            got.retain(|frame| frame.is_message() && is_json(frame));
            let got: Vec<_> = got.iter().map(|frame| frame.data.clone()).collect();
            let want: Vec<_> = (0..between.len()).map(|at| format!("{{\"id\":{at}}}")).collect();
            prop_assert_eq!(got, want);
        }

        #[test]
        fn it_does_not_matter_how_the_bytes_are_cut(
            cuts in prop::collection::vec(1_usize..9, 1..30),
            line_end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
            mark in prop::sample::select(vec!["", "\u{feff}"]),
        ) {
            let lines = ["id: 1", "data: a", "data: b", "", "data: {\"x\":1}", "", ""];
            let text = mark.to_owned() + &lines.join(line_end);
            let mut whole = Decoder::new(1000);
            whole.push(text.as_bytes());
            let want = frames(&mut whole);
            let (mut parts, mut got, mut rest) = (Decoder::new(1000), Vec::new(), text.as_bytes());
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break }
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                parts.push(head);
                got.extend(frames(&mut parts));
                rest = tail;
            }
            prop_assert_eq!(got.len(), 2);
            prop_assert_eq!(got[0].id.as_deref(), Some("1"));
            prop_assert_eq!(got, want);
        }
    }
}
