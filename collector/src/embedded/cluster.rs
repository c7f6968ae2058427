//! Makes the cluster, once, whole or not at all.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::{EmbeddedError, failed};
use super::layout::Layout;
use super::process::Programs;
use crate::identity::secret;
use crate::secret_file;

/// Name of the collector's role and of its database.
pub const NAME: &str = "highwater";
/// Bounds of initdb and of the first statements on a slow disk.
const INITDB: Duration = Duration::from_secs(300);
const STATEMENTS: Duration = Duration::from_secs(120);
/// The one way in. The superuser is in no line: nobody connects as it.
const HBA: &str = "# Written by `highwater up` at each start.\nlocal highwater highwater scram-sha-256\n";

/// The major version of the cluster that is there; `None` without one.
pub fn version(layout: &Layout) -> Result<Option<String>, EmbeddedError> {
    let file = layout.cluster().join("PG_VERSION");
    match fs::read_to_string(&file) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("reading", &file)(e)),
    }
}

/// Makes cluster, password, role and database. Everything happens in a folder of another name, which is renamed last;
/// if a step fails it is removed.
pub async fn make(layout: &Layout, programs: &Programs, stopping: &CancellationToken) -> Result<(), EmbeddedError> {
    clear_unfinished(&layout.data_dir);
    let made = make_in(&layout.new_cluster(), layout, programs, stopping).await;
    if made.is_err() {
        clear_unfinished(&layout.data_dir);
    }
    made
}

async fn make_in(
    folder: &Path,
    layout: &Layout,
    programs: &Programs,
    stopping: &CancellationToken,
) -> Result<(), EmbeddedError> {
    DirBuilder::new().mode(0o700).create(folder).map_err(failed("making", folder))?;
    programs.account.give(folder)?;
    programs.account.check_reaches(folder)?;
    let mut initdb = programs.command("initdb");
    initdb
        .arg("-D")
        .arg(folder)
        .args(["-U", "postgres", "--encoding=UTF8", "--locale=C"])
        // Whoever starts this cluster by other means than `up` lets nobody in.
        .args(["--auth-local=reject", "--auth-host=reject"]);
    programs.run("initdb", initdb, "", INITDB, stopping).await?;
    let password = secret::new_secret()?;
    let mut single = programs.command("postgres");
    single.args(["--single", "-D"]).arg(folder).args(["-c", "password_encryption=scram-sha-256", "postgres"]);
    let statements = format!(
        "CREATE ROLE {NAME} LOGIN PASSWORD '{password}'\n\
         CREATE DATABASE {NAME} OWNER {NAME} TEMPLATE template0\n"
    );
    let said = programs.run("postgres", single, &statements, STATEMENTS, stopping).await?;
    // The single-user server goes on after an error and ends with status 0.
    if ["ERROR:", "FATAL:", "PANIC:"].iter().any(|word| said.contains(word)) {
        return Err(programs.failure("postgres", "an error".to_owned(), &said));
    }
    secret_file::replace(&layout.password(), password.as_bytes())?;
    let cluster = layout.cluster();
    fs::rename(folder, &cluster).map_err(failed("renaming into place", &cluster))?;
    fs::File::open(&layout.data_dir).and_then(|d| d.sync_all()).map_err(failed("syncing", &layout.data_dir))
}

/// The password of the collector's role.
pub fn password(layout: &Layout) -> Result<String, EmbeddedError> {
    let file = layout.password();
    let why = |why: String| EmbeddedError::Password { cluster: layout.cluster(), file: file.clone(), why };
    let bytes = secret_file::read(&file, 256).map_err(|e| why(e.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|e| why(e.to_string()))?;
    Ok(text.trim().to_owned())
}

/// Writes who may connect. The file holds no secret and belongs to this process's user; the server only reads it.
pub fn write_hba(layout: &Layout) -> Result<(), EmbeddedError> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = layout.hba();
    if fs::read_to_string(&file).is_ok_and(|text| text == HBA) {
        return Ok(());
    }
    secret_file::replace(&file, HBA.as_bytes())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).map_err(failed("opening for the server", &file))
}

/// Removes what an `up` that died while making a cluster left behind. One that cannot be removed is only in nobody's
/// way: its name holds the pid of the run that made it.
fn clear_unfinished(data_dir: &Path) {
    for entry in fs::read_dir(data_dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("postgres.new.")
            && let Err(e) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(folder = %entry.path().display(), error = %e, "an unfinished cluster stays");
        }
    }
}
