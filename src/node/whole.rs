//! System calls made again until they are done: what was interrupted, and the rest of what came short.
//!
//! Plain functions over the call itself, so that every way to cut it can be tried. What comes out is whole or an error,
//! never less without a word, and always something: a call that gets nowhere is not made for ever.

use std::io::{Error, ErrorKind, Result};

/// How often in a row a call may be interrupted, and come no further, before that is what is the matter with the file.
/// Signals here are few; a file system in user space may say so as often as it likes.
const INTERRUPTIONS: u32 = 1000;

/// Makes a call again that was interrupted before it did anything.
pub fn again<T, E: Into<Error>>(mut call: impl FnMut() -> std::result::Result<T, E>) -> Result<T> {
    let mut left = INTERRUPTIONS;
    loop {
        match call().map_err(Into::into) {
            Err(e) if e.kind() == ErrorKind::Interrupted && left > 0 => left -= 1,
            done => return done,
        }
    }
}

/// Fills `buf` by a call that reads to a buffer what stands so many bytes further; gives less only where the file ends.
pub fn read(buf: &mut [u8], mut call: impl FnMut(&mut [u8], u64) -> Result<usize>) -> Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match again(|| call(&mut buf[done..], done as u64))? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Writes all of `data` by a call that writes a part of it so many bytes further.
pub fn write(data: &[u8], mut call: impl FnMut(&[u8], u64) -> Result<usize>) -> Result<()> {
    let mut done = 0;
    while done < data.len() {
        match again(|| call(&data[done..], done as u64))? {
            // As at the end of a device: it would be so for ever.
            0 => return Err(Error::new(ErrorKind::WriteZero, "nothing more is written, and no error told")),
            n => done += n,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of one call.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Cut {
        Whole,
        One,
        Half,
        AllButOne,
        Nothing,
        Interrupted,
        InterruptedTenTimes,
        Fails,
    }

    use Cut::*;

    const CUTS: [Cut; 8] = [Whole, One, Half, AllButOne, Nothing, Interrupted, InterruptedTenTimes, Fails];
    const BYTES: usize = 37;

    /// Calls of which each is cut as it comes; behind the last, all are whole.
    struct Calls<'a> {
        cuts: &'a [Cut],
        interrupted: u32,
        made: usize,
    }

    impl Calls<'_> {
        /// How much of `len` is done this time.
        fn next(&mut self, len: usize) -> Result<usize> {
            self.made += 1;
            let cut = self.cuts.first().copied().unwrap_or(Whole);
            if cut == InterruptedTenTimes && self.interrupted < 9 {
                self.interrupted += 1;
                return Err(ErrorKind::Interrupted.into());
            }
            self.interrupted = 0;
            self.cuts = self.cuts.get(1..).unwrap_or_default();
            match cut {
                Whole => Ok(len),
                One => Ok(1),
                Half => Ok(len.div_ceil(2)),
                AllButOne => Ok((len - 1).max(1)),
                Nothing => Ok(0),
                Interrupted | InterruptedTenTimes => Err(ErrorKind::Interrupted.into()),
                Fails => Err(Error::from_raw_os_error(5)),
            }
        }
    }

    /// Every sequence of up to five cuts.
    fn all_cuts(mut each: impl FnMut(&[Cut])) {
        for len in 0..=5u32 {
            for n in 0..CUTS.len().pow(len) {
                let cuts: Vec<Cut> = (0..len).map(|at| CUTS[n / CUTS.len().pow(at) % CUTS.len()]).collect();
                each(&cuts);
            }
        }
    }

    /// What ends it, of the calls that are made at all: the first that fails or comes to nothing.
    fn end(cuts: &[Cut]) -> Option<Cut> {
        let mut left = BYTES;
        for cut in cuts.iter().filter(|cut| !matches!(cut, Interrupted | InterruptedTenTimes)) {
            left -= match cut {
                _ if left == 0 => return None,
                Fails | Nothing => return Some(*cut),
                One => 1,
                Half => left.div_ceil(2),
                AllButOne => (left - 1).max(1),
                _ => left,
            };
        }
        None
    }

    #[test]
    fn however_its_calls_are_cut_a_write_is_whole_or_an_error() {
        let data: Vec<u8> = (0..BYTES as u8).collect();
        all_cuts(|cuts| {
            let (mut calls, mut file) = (Calls { cuts, interrupted: 0, made: 0 }, Vec::new());
            let done = write(&data, |rest, at| {
                assert_eq!(at as usize, file.len(), "{cuts:?}: it goes on where it was cut");
                let n = calls.next(rest.len())?;
                file.extend_from_slice(&rest[..n]);
                Ok(n)
            });
            match end(cuts) {
                None => assert!(done.is_ok() && file == data, "{cuts:?}: {done:?}"),
                Some(Nothing) => assert_eq!(done.unwrap_err().kind(), ErrorKind::WriteZero, "{cuts:?}"),
                Some(_) => assert_eq!(done.unwrap_err().raw_os_error(), Some(5), "{cuts:?}"),
            }
            assert!(file == data[..file.len()] && calls.made <= 60, "{cuts:?}: {} calls", calls.made);
        });
    }

    #[test]
    fn however_its_calls_are_cut_a_read_is_whole_or_an_error_or_ends_where_the_file_does() {
        let file: Vec<u8> = (0..BYTES as u8).collect();
        all_cuts(|cuts| {
            // Also where the file ends before the buffer does.
            for wanted in [BYTES, BYTES + 9] {
                let (mut calls, mut buf) = (Calls { cuts, interrupted: 0, made: 0 }, vec![0xee; wanted]);
                let done = read(&mut buf, |rest, at| {
                    let there = &file[at as usize..];
                    let n = if there.is_empty() { 0 } else { calls.next(rest.len().min(there.len()))? };
                    rest[..n].copy_from_slice(&there[..n]);
                    Ok(n)
                });
                match end(cuts) {
                    None => assert_eq!(done.unwrap(), BYTES, "{cuts:?}"),
                    // It is the kernel's way to say that the file ends there, and the caller sees how far it got.
                    Some(Nothing) => assert!(done.unwrap() < BYTES, "{cuts:?}"),
                    Some(_) => assert_eq!(done.unwrap_err().raw_os_error(), Some(5), "{cuts:?}"),
                }
                let read = buf.iter().take_while(|b| **b != 0xee).count();
                assert!(buf[..read] == file[..read] && calls.made <= 60, "{cuts:?}: {} calls", calls.made);
            }
        });
    }

    #[test]
    fn a_call_that_is_interrupted_for_ever_is_an_error() {
        let mut made = 0u32;
        let mut interrupted = || {
            made += 1;
            Err(Error::from(ErrorKind::Interrupted))
        };
        assert_eq!(again::<usize, _>(&mut interrupted).unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(write(b"data", |_, _| interrupted()).unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(read(&mut [0; 4], |_, _| interrupted()).unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(made, 3 * (INTERRUPTIONS + 1));
    }

    #[test]
    fn interruptions_between_calls_that_get_on_are_not_counted_together() {
        let data = vec![7; 3 * INTERRUPTIONS as usize];
        let (mut made, mut written) = (0u32, 0);
        write(&data, |_, _| {
            made += 1;
            if made % 10 != 0 {
                return Err(ErrorKind::Interrupted.into());
            }
            written += 1;
            Ok(1)
        })
        .unwrap();
        assert_eq!(written, data.len());
    }

    #[test]
    fn nothing_takes_no_call() {
        write(&[], |_, _| panic!("a call")).unwrap();
        assert_eq!(read(&mut [], |_, _| panic!("a call")).unwrap(), 0);
    }
}
