//! As much of the tar format as an archive needs: plain files under short names, in the POSIX spelling (`ustar`) that
//! every tar program reads. Nothing else is read, so that there are no links, folders or long names to be careful with.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

/// What everything in a tar file is a multiple of.
const BLOCK: usize = 512;
/// Longest name: the first field of a header, without the one that would hold a path before it.
const MAX_NAME: usize = 100;

/// Fields of a header: where each begins, and how long it is.
const NAME: (usize, usize) = (0, MAX_NAME);
const MODE: (usize, usize) = (100, 8);
const OWNER: (usize, usize) = (108, 8);
const GROUP: (usize, usize) = (116, 8);
const SIZE: (usize, usize) = (124, 12);
const TIME: (usize, usize) = (136, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const KIND: (usize, usize) = (156, 1);
const MAGIC: (usize, usize) = (257, 8);

/// `ustar` and the version of the format.
const USTAR: &[u8; 8] = b"ustar\x0000";
/// A plain file.
const PLAIN: u8 = b'0';

/// What a tar file says of the next file in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name, as it stands there: never to be used as a path.
    pub(super) name: String,
    /// How many bytes it has.
    pub(super) length: u64,
}

/// Writes files one after another.
pub(super) struct Writer<W> {
    out: W,
    /// Seconds since 1970, which every file gets.
    time: u64,
}

impl<W: Write> Writer<W> {
    pub(super) const fn new(out: W, time: u64) -> Self {
        Self { out, time }
    }

    /// Writes a file that only its owner may read when it is unpacked.
    pub(super) fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if name.len() > MAX_NAME {
            return Err(io::Error::other("a name too long for a tar file"));
        }
        self.out.write_all(&self.header(name, bytes.len()))?;
        self.out.write_all(bytes)?;
        self.out.write_all(zeros(padding(bytes.len())))
    }

    /// Writes the end, and gives back where everything was written.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn header(&self, name: &str, length: usize) -> [u8; BLOCK] {
        let mut header = [0; BLOCK];
        put(&mut header, NAME, name.as_bytes());
        put(&mut header, MODE, b"0000600\0");
        put(&mut header, OWNER, b"0000000\0");
        put(&mut header, GROUP, b"0000000\0");
        put(&mut header, SIZE, format!("{length:011o}\0").as_bytes());
        put(&mut header, TIME, format!("{:011o}\0", self.time).as_bytes());
        put(&mut header, KIND, &[PLAIN]);
        put(&mut header, MAGIC, USTAR);
        let sum = checksum(&header);
        put(&mut header, CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        header
    }
}

/// Reads files one after another.
pub(super) struct Reader<R> {
    from: R,
}

impl<R: Read> Reader<R> {
    pub(super) const fn new(from: R) -> Self {
        Self { from }
    }

    /// The next file; `None` at the end. Its bytes must be read before the one after it.
    pub(super) fn member(&mut self) -> Result<Option<Member>, TarError> {
        let header = self.block()?;
        if header.iter().all(|byte| *byte == 0) {
            let second = self.block()?;
            return if second == header {
                Ok(None)
            } else {
                Err(TarError::Header)
            };
        }
        let sound = field(&header, MAGIC) == USTAR
            && field(&header, KIND) == [PLAIN]
            && octal(field(&header, CHECKSUM)) == Some(checksum(&header));
        let name = text(field(&header, NAME));
        let length = octal(field(&header, SIZE));
        match (sound, name, length) {
            (true, Some(name), Some(length)) => Ok(Some(Member { name, length })),
            _ => Err(TarError::Header),
        }
    }

    /// The bytes of the file that [`Self::member`] named, if there are at most `most`: nothing is set aside for more.
    pub(super) fn bytes(&mut self, member: &Member, most: u64) -> Result<Zeroizing<Vec<u8>>, TarError> {
        let length = usize::try_from(member.length)
            .ok()
            .filter(|_| member.length <= most);
        let length = length.ok_or(TarError::Length)?;
        let mut bytes = Zeroizing::new(vec![0; length]);
        self.from.read_exact(&mut bytes)?;
        self.from.read_exact(&mut vec![0; padding(length)])?;
        Ok(bytes)
    }

    fn block(&mut self) -> io::Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.from.read_exact(&mut block)?;
        Ok(block)
    }
}

/// Why something is not such a tar file.
#[derive(Debug, thiserror::Error)]
pub(super) enum TarError {
    /// It ends early, or cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Not the header of a plain file.
    #[error("not a tar file of plain files")]
    Header,
    /// A file longer than it may be.
    #[error("a file in it is too long")]
    Length,
}

fn put(header: &mut [u8; BLOCK], (at, length): (usize, usize), bytes: &[u8]) {
    for (place, byte) in header.iter_mut().skip(at).take(length).zip(bytes) {
        *place = *byte;
    }
}

fn field(header: &[u8; BLOCK], (at, length): (usize, usize)) -> &[u8] {
    header.get(at..at + length).unwrap_or_default()
}

/// The sum of all bytes, with spaces where the sum itself stands.
fn checksum(header: &[u8; BLOCK]) -> u64 {
    let (at, length) = CHECKSUM;
    let bytes = header.iter().enumerate();
    bytes
        .map(|(place, byte)| {
            if (at..at + length).contains(&place) {
                b' '
            } else {
                *byte
            }
        })
        .map(u64::from)
        .sum()
}

fn text(field: &[u8]) -> Option<String> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let name = std::str::from_utf8(field.get(..end)?).ok()?;
    Some(name.to_owned())
}

fn octal(field: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    let plain = !digits.is_empty() && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    plain.then(|| u64::from_str_radix(digits, 8).ok()).flatten()
}

const fn padding(length: usize) -> usize {
    length.next_multiple_of(BLOCK) - length
}

fn zeros(count: usize) -> &'static [u8] {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    ZEROS.get(..count).unwrap_or(&ZEROS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), 1_900_000_000);
        writer.append("manifest.json", b"{}").unwrap();
        writer.append("files/empty", b"").unwrap();
        writer.append("files/whole-block", &[7; BLOCK]).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = written();
        let mut reader = Reader::new(bytes.as_slice());
        for (name, content) in [
            ("manifest.json", b"{}".to_vec()),
            ("files/empty", Vec::new()),
            ("files/whole-block", vec![7; BLOCK]),
        ] {
            let member = reader.member().unwrap().unwrap();
            assert_eq!(member.name, name);
            assert_eq!(*reader.bytes(&member, 4096).unwrap(), content);
        }
        assert_eq!(reader.member().unwrap(), None);
    }

    #[test]
    fn a_tar_file_that_was_cut_off_is_refused_wherever_that_was() {
        let bytes = written();
        for end in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..end]);
            let read = loop {
                match reader.member().and_then(|member| {
                    member
                        .map(|member| reader.bytes(&member, 4096).map(drop))
                        .transpose()
                }) {
                    Ok(Some(())) => {}
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            assert!(!read, "{end}");
        }
    }

    #[test]
    fn links_folders_and_changed_headers_are_refused() {
        for (place, byte) in [
            (156, b'2'),
            (156, b'5'),
            (156, b'x'),
            (0, b'/'),
            (124, b'7'),
            (257, b'g'),
        ] {
            let mut bytes = written();
            bytes[place] = byte;
            assert!(
                matches!(Reader::new(bytes.as_slice()).member(), Err(TarError::Header)),
                "{place}"
            );
        }
    }

    #[test]
    fn a_zip_bomb_of_a_length_sets_no_memory_aside() {
        let mut bytes = written();
        let mut header: [u8; BLOCK] = bytes[..BLOCK].try_into().unwrap();
        put(&mut header, SIZE, b"77777777777\0");
        let sum = checksum(&header);
        put(&mut header, CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        bytes[..BLOCK].copy_from_slice(&header);
        let mut reader = Reader::new(bytes.as_slice());
        let member = reader.member().unwrap().unwrap();
        assert_eq!(member.length, 8_589_934_591);
        assert!(matches!(reader.bytes(&member, 1 << 20), Err(TarError::Length)));
    }
}
