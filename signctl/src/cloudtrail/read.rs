//! The records of a CloudTrail file, one after the other: `{"Records":[...]}`. A file may be of any size, a record
//! may not. Bytes in, bytes out: what a record says is read elsewhere.

use std::io::{self, BufRead};

/// CloudTrail cuts a record at 256 KiB.
pub const RECORD_MAX_BYTES: usize = 1024 * 1024;
/// Deeper is no record of CloudTrail.
const DEPTH_MAX: u32 = 64;
const RECORDS: &[u8] = b"\"Records\"";

/// Why a file is not one of CloudTrail's, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    /// The file cannot be read, or unpacked.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not JSON of that form.
    #[error("it is not a file of CloudTrail, {{\"Records\":[...]}}: {0}")]
    Form(&'static str),
    /// A record is longer than CloudTrail's are.
    #[error("a record has more than {RECORD_MAX_BYTES} bytes")]
    Long,
}

/// What a file was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// It had so many records.
    Records(u64),
    /// An object without records, as CloudTrail's digest files are.
    Digest,
}

/// Gives each record's bytes to `found`, in their order.
///
/// # Errors
/// [`NotRead`], after the records before. Whatever `found` refuses with.
pub fn records<E: From<NotRead>>(
    from: impl BufRead,
    mut found: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<File, E> {
    let mut from = Bytes { from };
    let mut value = Vec::new();
    let mut count = None;
    from.expect(b'{', "it does not begin with {")?;
    if from.next_is(b'}')? {
        from.end()?;
        return Ok(File::Digest);
    }
    loop {
        from.value(&mut value)?;
        let is_records = value == RECORDS;
        from.expect(b':', "a name has no value")?;
        if is_records {
            if count.is_some() {
                return Err(NotRead::Form("it has Records twice").into());
            }
            count = Some(list(&mut from, &mut value, &mut found)?);
        } else {
            from.value(&mut value)?;
        }
        if !from.next_is(b',')? {
            break;
        }
    }
    from.expect(b'}', "it is cut off")?;
    from.end()?;
    Ok(count.map_or(File::Digest, File::Records))
}

fn list<E: From<NotRead>>(
    from: &mut Bytes<impl BufRead>,
    value: &mut Vec<u8>,
    found: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<u64, E> {
    let mut count = 0;
    from.expect(b'[', "Records is not a list")?;
    if from.next_is(b']')? {
        return Ok(0);
    }
    loop {
        from.value(value)?;
        found(value)?;
        count += 1;
        if !from.next_is(b',')? {
            break;
        }
    }
    from.expect(b']', "it is cut off")?;
    Ok(count)
}

struct Bytes<R> {
    from: R,
}

impl<R: BufRead> Bytes<R> {
    fn peek(&mut self) -> Result<Option<u8>, NotRead> {
        Ok(self.from.fill_buf()?.first().copied())
    }

    /// The next byte that is not white space.
    fn solid(&mut self) -> Result<Option<u8>, NotRead> {
        while let Some(byte) = self.peek()? {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Ok(Some(byte));
            }
            self.from.consume(1);
        }
        Ok(None)
    }

    fn next_is(&mut self, byte: u8) -> Result<bool, NotRead> {
        let is = self.solid()? == Some(byte);
        if is {
            self.from.consume(1);
        }
        Ok(is)
    }

    fn expect(&mut self, byte: u8, why: &'static str) -> Result<(), NotRead> {
        if self.next_is(byte)? { Ok(()) } else { Err(NotRead::Form(why)) }
    }

    fn end(&mut self) -> Result<(), NotRead> {
        match self.solid()? {
            None => Ok(()),
            Some(_) => Err(NotRead::Form("something stands behind its end")),
        }
    }

    /// One value's bytes, as they are. Whether they are JSON, whoever reads them finds out.
    fn value(&mut self, value: &mut Vec<u8>) -> Result<(), NotRead> {
        value.clear();
        if self.solid()?.is_none() {
            return Err(NotRead::Form("it is cut off"));
        }
        let (mut depth, mut in_text, mut is_escaped) = (0_u32, false, false);
        loop {
            let buffer = self.from.fill_buf()?;
            if buffer.is_empty() {
                return Err(NotRead::Form("it is cut off"));
            }
            let (mut taken, mut is_end) = (0, false);
            for byte in buffer {
                if in_text {
                    match (is_escaped, byte) {
                        (true, _) => is_escaped = false,
                        (false, b'\\') => is_escaped = true,
                        (false, b'"') => in_text = false,
                        (false, _) => {}
                    }
                    taken += 1;
                    is_end = !in_text && depth == 0;
                } else {
                    match byte {
                        b'{' | b'[' => depth += 1,
                        b'"' => in_text = true,
                        // Of what is around it.
                        b'}' | b']' | b',' | b':' if depth == 0 => {
                            is_end = true;
                            break;
                        }
                        b'}' | b']' => depth -= 1,
                        b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => {
                            is_end = true;
                            break;
                        }
                        _ => {}
                    }
                    taken += 1;
                    is_end = depth == 0 && matches!(byte, b'}' | b']');
                }
                if is_end || depth > DEPTH_MAX {
                    break;
                }
            }
            if depth > DEPTH_MAX {
                return Err(NotRead::Form("it is nested too deep"));
            }
            if value.len() + taken > RECORD_MAX_BYTES {
                return Err(NotRead::Long);
            }
            value.extend_from_slice(buffer.get(..taken).unwrap_or_default());
            self.from.consume(taken);
            if is_end {
                return if value.is_empty() {
                    Err(NotRead::Form("a value is missing"))
                } else {
                    Ok(())
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn read(text: &[u8], buffer: usize) -> Result<(File, Vec<String>), NotRead> {
        let mut all = Vec::new();
        let file = records(BufReader::with_capacity(buffer, text), |record| {
            all.push(String::from_utf8_lossy(record).into_owned());
            Ok::<_, NotRead>(())
        });
        Ok((file?, all))
    }

    #[test]
    fn each_record_comes_as_it_stands_whatever_the_buffer() {
        let text = br#" { "a" : [1,{"Records":[9]}], "Records" : [ {"x":"}],\"\\"} , {"y":[{},[]]} ,7 ] , "b":null } "#;
        for buffer in [1, 2, 3, 7, 4096] {
            let (file, all) = read(text, buffer).unwrap();
            assert_eq!(file, File::Records(3), "{buffer}");
            assert_eq!(all, [r#"{"x":"}],\"\\"}"#, r#"{"y":[{},[]]}"#, "7"], "{buffer}");
        }
        assert_eq!(read(b"{\"Records\":[]}", 8).unwrap().0, File::Records(0));
        for digest in [&b"{}"[..], b"{\"digestStartTime\":\"x\"}"] {
            assert_eq!(read(digest, 8).unwrap().0, File::Digest);
        }
    }

    #[test]
    fn a_file_that_is_cut_or_of_another_form_is_refused_and_never_taken_as_empty() {
        let whole = br#"{"Records":[{"a":1},{"b":2}]}"#;
        for end in 0..whole.len() {
            assert!(read(&whole[..end], 5).is_err(), "{end}");
        }
        for odd in [
            &b"[]"[..],
            b"{\"Records\":{}}",
            b"{\"Records\":[1,]}",
            b"{\"Records\":[1]}{}",
            b"{\"Records\":[1],\"Records\":[]}",
            b"{\"Records\"}",
            b"nonsense",
        ] {
            assert!(read(odd, 5).is_err(), "{}", String::from_utf8_lossy(odd));
        }
    }

    #[test]
    fn i8_a_record_is_bounded_in_size_and_depth_and_the_file_is_not() {
        let long = format!("{{\"Records\":[\"{}\"]}}", "x".repeat(RECORD_MAX_BYTES));
        assert!(matches!(read(long.as_bytes(), 4096), Err(NotRead::Long)));
        let deep = format!("{{\"Records\":[{}", "[".repeat(1_000_000));
        assert!(matches!(read(deep.as_bytes(), 4096), Err(NotRead::Form(_))));
        let many = format!("{{\"Records\":[{}1]}}", "{\"a\":\"b\"},".repeat(200_000));
        assert_eq!(read(many.as_bytes(), 4096).unwrap().0, File::Records(200_001));
    }
}
