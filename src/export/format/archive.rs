//! A ZIP archive, streamed (PKWARE's APPNOTE.TXT, 6.3).
//!
//! Readers that go through an archive from its beginning believe what stands before a member. So a
//! member that is known says its size there, and one that is made on the way promises a data
//! descriptor (bit 3), and has it. `zip`'s writer for streams promises one for both, and writes none
//! behind what was compressed before.

use std::io::{self, Write};

use flate2::Crc;

use super::deflate::Deflater;

/// "Sizes and checksum follow in a data descriptor" (4.4.4, bit 3).
const HAS_DESCRIPTOR: u16 = 1 << 3;
/// "The name is UTF-8" (4.4.4, bit 11).
const IS_UTF8: u16 = 1 << 11;
/// 4.4.5.
const DEFLATED: u16 = 8;
/// 2.0, for deflate; 4.5 for ZIP64 (4.4.3).
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// 1980-01-01, the first day that ZIP knows: the same rows give the same bytes.
const DATE: u16 = (1 << 5) | 1;
/// What stands where 32 bits do not suffice (4.4.1.4).
const SEE_ZIP64: u32 = u32::MAX;

/// The archive between two members.
pub(super) struct Archive<W> {
    to: W,
    /// Bytes written.
    at: u64,
    members: Vec<Entry>,
}

/// A member in the central directory.
struct Entry {
    name: String,
    flags: u16,
    crc: u32,
    compressed: u32,
    size: u32,
    /// Where its local header is.
    at: u64,
}

/// A member that is there before it is written.
#[derive(Clone, Debug)]
pub(super) struct Deflated {
    pub crc: u32,
    /// Before it was compressed.
    pub size: u32,
    pub bytes: std::sync::Arc<[u8]>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Archive { to, at: 0, members: Vec::new() }
    }

    /// Writes a whole member.
    pub(super) fn add(&mut self, name: &str, member: &Deflated) -> io::Result<()> {
        let mut entry = Entry::new(name, 0, self.at);
        (entry.crc, entry.size) = (member.crc, member.size);
        entry.compressed = small(member.bytes.len() as u64)?;
        self.write(&entry.local_header())?;
        self.write(&member.bytes)?;
        self.members.push(entry);
        Ok(())
    }

    /// Begins a member of less than 4 GiB whose size nobody knows yet.
    pub(super) fn begin(mut self, name: &str) -> io::Result<Member<W>> {
        let entry = Entry::new(name, HAS_DESCRIPTOR, self.at);
        self.write(&entry.local_header())?;
        let (deflate, compressed) = (Deflater::new(), Vec::new());
        Ok(Member { archive: self, entry, crc: Crc::new(), size: 0, deflate, compressed })
    }

    /// Writes the central directory.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let directory_at = self.at;
        let directory: Vec<u8> = self.members.iter().flat_map(Entry::central_header).collect();
        self.write(&directory)?;
        let end = end(self.members.len() as u64, directory_at, self.at - directory_at);
        self.write(&end)?;
        Ok(self.to)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.to.write_all(bytes)
    }
}

/// A member under way.
pub(super) struct Member<W> {
    archive: Archive<W>,
    entry: Entry,
    crc: Crc,
    size: u64,
    deflate: Deflater,
    /// What was not passed on yet.
    compressed: Vec<u8>,
}

impl<W: Write> Member<W> {
    /// Ends it with its data descriptor.
    pub(super) fn end(mut self) -> io::Result<Archive<W>> {
        self.deflate.finish(&mut self.compressed);
        self.pass_on()?;
        let Member { mut archive, mut entry, .. } = self;
        entry.crc = self.crc.sum();
        entry.size = small(self.size)?;
        entry.compressed = small(archive.at - entry.at - entry.local_header().len() as u64)?;
        let mut descriptor = Bytes::of(0x0807_4b50);
        descriptor.u32(entry.crc).u32(entry.compressed).u32(entry.size);
        archive.write(&descriptor.0)?;
        archive.members.push(entry);
        Ok(archive)
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.archive.write(&self.compressed)?;
        self.compressed.clear();
        Ok(())
    }
}

impl<W: Write> Write for Member<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.crc.update(bytes);
        self.size += bytes.len() as u64;
        self.deflate.compress(bytes, &mut self.compressed);
        self.pass_on()?;
        Ok(bytes.len())
    }

    /// Does nothing: a block of deflate ends when it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A size of a member whose header has 32 bits for it.
fn small(size: u64) -> io::Result<u32> {
    u32::try_from(size).map_err(|_| io::Error::other("a member of an archive reached 4 GiB"))
}

impl Entry {
    fn new(name: &str, flags: u16, at: u64) -> Self {
        let flags = if name.is_ascii() { flags } else { flags | IS_UTF8 };
        Entry { name: name.to_owned(), flags, crc: 0, compressed: 0, size: 0, at }
    }

    /// 4.3.7.
    fn local_header(&self) -> Vec<u8> {
        let mut header = Bytes::of(0x0403_4b50);
        header.u16(VERSION).u16(self.flags).u16(DEFLATED).u16(0).u16(DATE);
        header.u32(self.crc).u32(self.compressed).u32(self.size);
        header.u16(self.name.len() as u16).u16(0);
        header.0.extend_from_slice(self.name.as_bytes());
        header.0
    }

    /// 4.3.12.
    fn central_header(&self) -> Vec<u8> {
        let near = u32::try_from(self.at).ok().filter(|at| *at != SEE_ZIP64);
        let mut extra = Bytes(Vec::new());
        if near.is_none() {
            // 4.5.3.
            extra.u16(1).u16(8).u64(self.at);
        }
        let version = if near.is_some() { VERSION } else { VERSION_ZIP64 };
        let mut header = Bytes::of(0x0201_4b50);
        header.u16(version).u16(version).u16(self.flags).u16(DEFLATED).u16(0).u16(DATE);
        header.u32(self.crc).u32(self.compressed).u32(self.size);
        header.u16(self.name.len() as u16).u16(extra.0.len() as u16);
        // No comment, the first disk, no attributes.
        header.u16(0).u16(0).u16(0).u32(0).u32(near.unwrap_or(SEE_ZIP64));
        header.0.extend_from_slice(self.name.as_bytes());
        header.0.extend_from_slice(&extra.0);
        header.0
    }
}

/// What closes an archive of that many members, whose directory of `length` bytes begins at `at`.
fn end(members: u64, at: u64, length: u64) -> Vec<u8> {
    let mut end = Bytes(Vec::new());
    let fits = members < u64::from(u16::MAX) && at + length < u64::from(SEE_ZIP64);
    if !fits {
        // 4.3.14, 4.3.15.
        end.u32(0x0606_4b50).u64(44).u16(VERSION_ZIP64).u16(VERSION_ZIP64).u32(0).u32(0);
        end.u64(members).u64(members).u64(length).u64(at);
        end.u32(0x0706_4b50).u32(0).u64(at + length).u32(1);
    }
    let count = u16::try_from(members).unwrap_or(u16::MAX);
    let count = if fits { count } else { u16::MAX };
    let field = |value: u64| if fits { value as u32 } else { SEE_ZIP64 };
    // 4.3.16.
    end.u32(0x0605_4b50).u16(0).u16(0).u16(count).u16(count);
    end.u32(field(length)).u32(field(at)).u16(0);
    end.0
}

/// Little-endian numbers.
struct Bytes(Vec<u8>);

impl Bytes {
    /// Of a record that begins with this signature.
    fn of(signature: u32) -> Self {
        Bytes(signature.to_le_bytes().to_vec())
    }

    fn u16(&mut self, number: u16) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read, Seek, SeekFrom};

    use super::*;

    use flate2::write::DeflateEncoder;

    fn known(text: &[u8]) -> Deflated {
        let mut deflate = DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        deflate.write_all(text).unwrap();
        let mut crc = Crc::new();
        crc.update(text);
        let bytes = deflate.finish().unwrap().into();
        Deflated { crc: crc.sum(), size: u32::try_from(text.len()).unwrap(), bytes }
    }

    fn write(archive: Archive<Cursor<Vec<u8>>>) -> Archive<Cursor<Vec<u8>>> {
        let mut archive = archive;
        archive.add("known.txt", &known(b"known")).unwrap();
        let mut member = archive.begin("ströme.txt").unwrap();
        for _ in 0..1_000 {
            member.write_all(b"made on the way ").unwrap();
        }
        member.end().unwrap()
    }

    fn read(archive: impl Read + Seek) {
        let mut archive = zip::ZipArchive::new(archive).unwrap();
        let mut text = String::new();
        archive.by_name("known.txt").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "known");
        text.clear();
        archive.by_name("ströme.txt").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "made on the way ".repeat(1_000));
    }

    #[test]
    fn a_reader_finds_what_was_written() {
        let archive = write(Archive::new(Cursor::new(Vec::new())));
        read(archive.finish().unwrap());
    }

    #[test]
    fn each_member_says_before_it_what_follows() {
        let bytes = write(Archive::new(Cursor::new(Vec::new()))).finish().unwrap().into_inner();
        let flags = |at: usize| u16::from_le_bytes([bytes[at + 6], bytes[at + 7]]);
        assert_eq!(flags(0), 0, "sizes are known");
        let size = u32::from_le_bytes(bytes[22..26].try_into().unwrap());
        assert_eq!(size, 5);
        let second = 30 + 9 + known(b"known").bytes.len();
        assert_eq!(flags(second), HAS_DESCRIPTOR | IS_UTF8);
        assert!(bytes.windows(4).any(|four| four == [0x50, 0x4b, 0x07, 0x08]), "a descriptor");
    }

    /// A file with a hole, so that nothing is really 4 GiB.
    #[test]
    fn members_beyond_four_gibibytes_are_found() {
        let mut file = tempfile::tempfile().unwrap();
        let far = 5 << 30;
        file.seek(SeekFrom::Start(far)).unwrap();
        let mut archive = Archive { to: file, at: far, members: Vec::new() };
        archive.add("known.txt", &known(b"known")).unwrap();
        let mut file = archive.finish().unwrap();
        file.rewind().unwrap();
        let mut archive = zip::ZipArchive::new(file).unwrap();
        let mut text = String::new();
        archive.by_name("known.txt").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "known");
    }
}
