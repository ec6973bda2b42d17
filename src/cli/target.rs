//! Where `bgfiles export` writes: standard output, a file that appears whole or not at all, or
//! straight into what is no regular file.

use std::{
    fs::{self, Metadata, Permissions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::{
    fs::{File, OpenOptions},
    io::AsyncWrite,
};

use crate::{
    error::{Error, Result},
    ids::{hex, random_bytes},
};

/// Symbolic links that are followed, as Linux does.
const LINKS: usize = 40;
/// The bits of a mode that say who may do what.
const MODE: u32 = 0o7777;

/// An open target.
pub(super) enum Target {
    /// Standard output.
    Standard(tokio::io::Stdout),
    /// A device, a FIFO, or what is open already (`/dev/stdout`).
    Straight(File),
    /// A regular file, there or not.
    Replace(File, Draft),
}

/// What becomes the file. Removed when it is dropped before.
pub(super) struct Draft {
    path: PathBuf,
    becomes: PathBuf,
    replaced: Option<Replaced>,
}

/// Of the file that it replaces: who may do what with it.
struct Replaced {
    mode: u32,
    user: u32,
    group: u32,
}

impl Target {
    /// Opens what `-o` names; standard output for `-` and when nothing is named. Waits for the
    /// reader of a FIFO.
    pub(super) async fn open(path: Option<&Path>) -> Result<Target> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Target::Standard(tokio::io::stdout()));
        };
        let refused = |why: &str| Err(Error::io(path.display().to_string())(io::Error::other(why)));
        let failed = || Error::io(path.display().to_string());
        let found = match fs::metadata(path) {
            Ok(found) => Some(found),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(failed()(e)),
        };
        let regular = match &found {
            Some(found) if found.is_dir() => return refused("this is a folder; name a file in it"),
            Some(found) if found.file_type().is_socket() => {
                return refused("this is a socket; name a file, a FIFO or a device");
            }
            Some(found) if !found.is_file() => None,
            _ => behind_links(path).map_err(failed())?,
        };
        match regular {
            Some(becomes) => Draft::begin(becomes, found.map(Replaced::new)).await,
            None => {
                let file = OpenOptions::new().write(true).open(path).await;
                file.map(Target::Straight).map_err(failed())
            }
        }
    }

    /// What takes the bytes.
    pub(super) fn writer(&mut self) -> &mut (dyn AsyncWrite + Send + Unpin) {
        match self {
            Target::Standard(out) => out,
            Target::Straight(file) | Target::Replace(file, _) => file,
        }
    }

    /// All was written, and flushed.
    pub(super) fn finish(self) -> Result<()> {
        match self {
            Target::Replace(_, draft) => draft.publish(),
            Target::Standard(_) | Target::Straight(_) => Ok(()),
        }
    }
}

impl Replaced {
    fn new(found: Metadata) -> Self {
        Replaced { mode: found.mode() & MODE, user: found.uid(), group: found.gid() }
    }
}

impl Draft {
    async fn begin(becomes: PathBuf, replaced: Option<Replaced>) -> Result<Target> {
        let name = format!(".bgfiles-{}.part", hex(&random_bytes::<8>()));
        let path = becomes.with_file_name(name);
        // What nobody else might read must not be readable meanwhile.
        let mode = if replaced.is_some() { 0o600 } else { 0o666 };
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).await;
        // The draft's name says nothing to anybody.
        let file = file.map_err(Error::io(becomes.display().to_string()))?;
        Ok(Target::Replace(file, Draft { path, becomes, replaced }))
    }

    fn publish(self) -> Result<()> {
        let failed = || Error::io(self.becomes.display().to_string());
        if let Some(Replaced { mode, user, group }) = self.replaced {
            // Only root may give files away; others who may replace it have it from now on.
            let _ = std::os::unix::fs::chown(&self.path, Some(user), Some(group));
            fs::set_permissions(&self.path, Permissions::from_mode(mode)).map_err(failed())?;
        }
        fs::rename(&self.path, &self.becomes).map_err(failed())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What is not whole must not stay. Once it has its name, there is nothing to remove.
        let _ = fs::remove_file(&self.path);
    }
}

/// The regular file that a path leads to, there or not; `None` for one that this process has open,
/// as `/dev/stdout` may be: whoever opened it looks there, not at its name.
fn behind_links(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        if fs::canonicalize(&folder).is_ok_and(|folder| folder.starts_with("/proc")) {
            return Ok(None);
        }
        match fs::read_link(&path) {
            Ok(to) => path = folder.join(to),
            Err(_) => return Ok(Some(path)),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}
