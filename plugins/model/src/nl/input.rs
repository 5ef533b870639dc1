//! The words of a `.nl` file, text or binary.
//!
//! The two forms have the same structure. In text every item is a line that
//! begins with its tag, and what follows its last number is a comment; in
//! binary a tag is a byte, an integer four bytes, a number an IEEE double,
//! all little-endian, and a name its length and its bytes. The header is text
//! in both.

use crate::ReadError;

/// A place in the file, and how to read from there.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Counted from 1; only of use in text.
    line: usize,
    binary: bool,
}

type Result<T> = std::result::Result<T, ReadError>;

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Input {
            bytes,
            position: 0,
            line: 1,
            binary: false,
        }
    }

    /// Length of the whole file in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that have not been read.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The current line; of a binary file the last one of its header.
    pub fn line(&self) -> usize {
        self.line
    }

    /// What follows is binary.
    pub fn become_binary(&mut self) {
        self.binary = true;
    }

    /// The rest of the line without its comment, as words.
    pub fn header_line(&mut self, expected: &str) -> Result<Vec<&'a str>> {
        if self.position == self.bytes.len() {
            return Err(self.end(expected));
        }
        let rest = &self.bytes[self.position..];
        let line = rest.split(|&b| b == b'\n').next().unwrap_or(rest);
        let line = line.split(|&b| b == b'#').next().unwrap_or(line);
        let words = std::str::from_utf8(line)
            .map_err(|_| self.expected(expected, &String::from_utf8_lossy(line)))?;
        let words = words.split_ascii_whitespace().collect();
        self.end_line();
        Ok(words)
    }

    /// The tag of the next segment; `None` at the end of the file.
    pub fn segment(&mut self) -> Option<u8> {
        if !self.binary {
            while let Some(byte) = self.bytes.get(self.position) {
                match byte {
                    b'\n' | b'#' => self.end_line(),
                    b if b.is_ascii_whitespace() => self.position += 1,
                    _ => break,
                }
            }
        }
        let tag = self.bytes.get(self.position).copied();
        self.position += usize::from(tag.is_some());
        tag
    }

    /// The tag of something within a segment.
    pub fn tag(&mut self, expected: &str) -> Result<u8> {
        self.skip_blanks();
        match self.bytes.get(self.position) {
            None => Err(self.end(expected)),
            Some(b'\n') if !self.binary => Err(self.expected(expected, "")),
            Some(&tag) => {
                self.position += 1;
                Ok(tag)
            }
        }
    }

    /// An integer of 32 bits.
    pub fn integer(&mut self, expected: &str) -> Result<i64> {
        if self.binary {
            return Ok(i32::from_le_bytes(self.array(expected)?).into());
        }
        let word = self.word(expected)?;
        let integer: Result<i32> = word.parse().map_err(|_| self.expected(expected, word));
        integer.map(i64::from)
    }

    /// A 16-bit integer of a binary file; any integer in text.
    pub fn short(&mut self, expected: &str) -> Result<i64> {
        if self.binary {
            return Ok(i16::from_le_bytes(self.array(expected)?).into());
        }
        self.integer(expected)
    }

    /// A nonnegative integer below `end`.
    pub fn index(&mut self, end: usize, expected: &str) -> Result<usize> {
        let integer = self.integer(expected)?;
        usize::try_from(integer)
            .ok()
            .filter(|&index| index < end)
            .ok_or_else(|| self.expected(format!("{expected} below {end}"), &integer.to_string()))
    }

    /// How many items follow. Each takes a byte at least, so that a number
    /// that the rest of the file has no room for is an error.
    pub fn count(&mut self, expected: &str) -> Result<usize> {
        let integer = self.integer(expected)?;
        usize::try_from(integer)
            .ok()
            .filter(|&count| count <= self.left())
            .ok_or_else(|| {
                let expected = format!("{expected} that the file has room for");
                self.expected(expected, &integer.to_string())
            })
    }

    /// A finite number.
    pub fn number(&mut self, expected: &str) -> Result<f64> {
        let number = self.bound(expected)?;
        if number.is_infinite() {
            return Err(self.expected(format!("{expected}, finite"), &number.to_string()));
        }
        Ok(number)
    }

    /// A number or an infinity.
    pub fn bound(&mut self, expected: &str) -> Result<f64> {
        let (number, word) = if self.binary {
            (f64::from_le_bytes(self.array(expected)?), "NaN")
        } else {
            let word = self.word(expected)?;
            (word.parse().unwrap_or(f64::NAN), word)
        };
        if number.is_nan() {
            return Err(self.expected(expected, word));
        }
        Ok(number)
    }

    /// A name.
    pub fn name(&mut self, expected: &str) -> Result<String> {
        if !self.binary {
            return Ok(self.word(expected)?.to_owned());
        }
        let length = self.count(expected)?;
        let bytes = &self.bytes[self.position..self.position + length];
        self.position += length;
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| self.expected(expected, &String::from_utf8_lossy(bytes)))
    }

    /// Ends a line of text; does nothing in binary, which has none.
    pub fn end_line(&mut self) {
        if self.binary {
            return;
        }
        let rest = &self.bytes[self.position..];
        match rest.iter().position(|&b| b == b'\n') {
            Some(length) => {
                self.position += length + 1;
                self.line += 1;
            }
            None => self.position = self.bytes.len(),
        }
    }

    /// The error that something else stands here.
    pub fn expected(&self, expected: impl Into<String>, found: &str) -> ReadError {
        self.located(ReadError::expected(self.line, expected, found))
    }

    /// The error that the file ends here.
    pub fn end(&self, expected: &str) -> ReadError {
        self.located(ReadError::UnexpectedEnd {
            line: self.line,
            expected: expected.to_owned(),
        })
    }

    /// The error that something is not supported, said with its verb.
    pub fn unsupported(&self, feature: &str) -> ReadError {
        self.located(ReadError::Unsupported {
            line: self.line,
            feature: feature.to_owned(),
        })
    }

    /// The error that something appears twice, the second time at `line`.
    pub fn duplicate(&self, line: usize, kind: &'static str, name: String) -> ReadError {
        self.located(ReadError::Duplicate { line, kind, name })
    }

    /// The same error with the place in bytes if the file is binary.
    fn located(&self, error: ReadError) -> ReadError {
        if !self.binary {
            return error;
        }
        let text = error.to_string();
        let problem = text
            .split_once(": ")
            .map_or(text.as_str(), |(_, problem)| problem);
        ReadError::AtByte {
            offset: self.position,
            problem: problem.to_owned(),
        }
    }

    /// The next word of the line, up to a blank or a comment.
    fn word(&mut self, expected: &str) -> Result<&'a str> {
        self.skip_blanks();
        let rest = &self.bytes[self.position..];
        let stops = |b: &u8| b.is_ascii_whitespace() || *b == b'#';
        let length = rest.iter().position(stops).unwrap_or(rest.len());
        if rest.is_empty() {
            return Err(self.end(expected));
        }
        let word = &rest[..length];
        let text = std::str::from_utf8(word)
            .map_err(|_| self.expected(expected, &String::from_utf8_lossy(word)))?;
        if text.is_empty() {
            return Err(self.expected(expected, ""));
        }
        self.position += length;
        Ok(text)
    }

    fn skip_blanks(&mut self) {
        if !self.binary {
            let rest = &self.bytes[self.position..];
            let blank = |b: &&u8| b.is_ascii_whitespace() && **b != b'\n';
            self.position += rest.iter().take_while(blank).count();
        }
    }

    fn array<const N: usize>(&mut self, expected: &str) -> Result<[u8; N]> {
        let bytes = self.bytes[self.position..].first_chunk();
        let bytes = *bytes.ok_or_else(|| self.end(expected))?;
        self.position += N;
        Ok(bytes)
    }
}
