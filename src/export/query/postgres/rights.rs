//! What the role of a source may do beyond reading what it should.

use sqlx::Row;

use super::connections::Connections;
use crate::error::Result;

/// A read-only transaction stops none of these. `lo_create` writes in one before PostgreSQL 16.
const RIGHTS: &str = "SELECT r.rolname::text, r.rolsuper, \
    pg_has_role(r.oid, 'pg_read_server_files', 'MEMBER') \
        OR pg_has_role(r.oid, 'pg_execute_server_program', 'MEMBER'), \
    coalesce(has_table_privilege(to_regclass('bgfiles_users'), 'SELECT'), false), \
    current_setting('server_version_num')::int < 160000 \
        AND has_function_privilege('public', 'lo_create(oid)', 'EXECUTE') \
    FROM pg_roles r WHERE r.rolname = current_user";

pub(super) async fn warnings(connections: &Connections) -> Result<Vec<String>> {
    let mut kept = connections.connection().await?;
    let row = sqlx::query(RIGHTS).persistent(false).fetch_one(&mut *kept.conn).await?;
    connections.give_back(kept);
    let role: String = row.try_get(0)?;
    let is = |at: usize| row.try_get::<bool, _>(at);
    let mut warnings = Vec::new();
    if is(1)? {
        warnings.push(format!("the role {role:?} is a superuser: queries may read files of the server and everybody's rows"));
    } else if is(2)? {
        warnings
            .push(format!("the role {role:?} may read files of the server or run programs there"));
    }
    if is(3)? {
        warnings.push(format!("the role {role:?} may read bgfiles_users, and what else is ours: queries may read digests of passwords"));
    }
    if is(4)? {
        let what = "large objects can be made in read-only transactions before PostgreSQL 16";
        warnings.push(format!("{what}: REVOKE EXECUTE ON FUNCTION lo_create(oid), lo_creat(integer), lo_from_bytea(oid, bytea) FROM PUBLIC"));
    }
    Ok(warnings)
}
