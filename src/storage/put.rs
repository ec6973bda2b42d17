//! Writing a small file into a folder, here and not through the store, which waits for the disk
//! four times, one after the other: eight milliseconds instead of one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use object_store::PutPayload;

use super::key::StorageKey;
use crate::error::{Error, Result};

/// Stores all bytes of a file at once. It and its name are on the disk when this returns; before,
/// after a power cut, there may be less of it under its name, which no row says.
///
/// # Errors
/// The file system's.
pub(super) async fn put(
    folder: &Path,
    key: StorageKey,
    payload: PutPayload,
    names: &Arc<Names>,
) -> Result<()> {
    let path = folder.join(key.to_string());
    let draft = folder.join(format!("{key}#put"));
    let names = names.clone();
    let task = tokio::task::spawn_blocking(move || {
        let written = write(&path, &draft, &payload, &names);
        if written.is_err() {
            // What stays is swept.
            let _ = fs::remove_file(&draft);
        }
        written
    });
    task.await.map_err(|e| Error::Internal(e.to_string()))?.map_err(Error::io("storing a file"))
}

/// Waits until all names that lead to a file are on the disk. Whoever comes while somebody waits is
/// waited for by the next one: files that are made at the same time share a wait.
#[derive(Default)]
pub(super) struct Names {
    asked: AtomicU64,
    on_disk: Mutex<OnDisk>,
}

#[derive(Default)]
struct OnDisk {
    /// Up to which of those that asked.
    asked: u64,
    /// The folder above all requests whose own name is there; open, so that its number stays its own.
    above: Option<File>,
}

impl Names {
    /// Of the folder of one request, and of what is in it.
    pub(super) fn sync(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()?;
        let above = folder.parent().unwrap_or(Path::new("."));
        let own = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut on_disk = self.on_disk.lock().unwrap_or_else(PoisonError::into_inner);
        if on_disk.asked >= own {
            return Ok(());
        }
        // Their names are there: each asks after it has made its own.
        let all = self.asked.load(Ordering::SeqCst);
        let now = File::open(above)?;
        now.sync_all()?;
        // Somebody else may have made it a moment ago, and not have waited yet.
        if !is_same(on_disk.above.as_ref(), &now)? {
            File::open(above.parent().unwrap_or(Path::new(".")))?.sync_all()?;
            on_disk.above = Some(now);
        }
        on_disk.asked = all;
        Ok(())
    }
}

fn is_same(known: Option<&File>, now: &File) -> io::Result<bool> {
    let Some(known) = known else { return Ok(false) };
    let (known, now) = (known.metadata()?, now.metadata()?);
    Ok((known.dev(), known.ino()) == (now.dev(), now.ino()))
}

/// Readable for its group, which may be that of the server that hands files out, and for nobody else.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(path)
}

pub(super) fn close_to_others(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o640))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(path)
}

fn write(path: &Path, draft: &PathBuf, payload: &PutPayload, names: &Names) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    create_folder(parent)?;
    let mut file = create(draft)?;
    payload.iter().try_for_each(|piece| file.write_all(piece))?;
    fs::rename(draft, path)?;
    // Everything is done before the first wait, so that one write of the journal holds it all. Of
    // the name, nobody reads before the row says that the file is there.
    file.sync_all()?;
    names.sync(parent)
}
