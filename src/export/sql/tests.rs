use super::{Fault, Statement};

fn rewritten(sql: &str) -> (String, Vec<String>) {
    let statement = Statement::parse(sql).unwrap();
    let (sql, names) = statement.rewrite(|_, n| format!("${n}"));
    (sql, names.into_iter().map(str::to_owned).collect())
}

fn fault(sql: &str) -> Fault {
    Statement::parse(sql).unwrap_err()
}

#[test]
fn parameters_are_numbered_by_name() {
    let (sql, names) = rewritten("SELECT :b, :a FROM t WHERE x>=:b AND(:a) IS NULL");
    assert_eq!(sql, "SELECT $1, $2 FROM t WHERE x>=$1 AND($2) IS NULL");
    assert_eq!(names, ["b", "a"]);
}

#[test]
fn what_only_looks_like_a_parameter_is_left_alone() {
    for sql in [
        "SELECT ':a', 'it''s :a', \":a\", \"x\"\":a\"",
        "SELECT 1 -- :a ' \n + 2",
        "SELECT /* :a /* nested :b */ ' :c */ 1",
        "SELECT x::text, y :: int, a[1:2], a[lo:hi], a[f(1):n], b[1][2:n]",
        r"SELECT E'it\'s :a', e'\\', 'back\', ':a'",
        r"SELECT E'it''s \' :a'",
        "SELECT $$ :a ' $$, $tag$ :b $$ $other$ $tag$, a$b$c",
        "SELECT 'ü:a', ü FROM t",
        "SELECT '10:30', 1 : 2, f(x := 1)",
        "SELECT name'x' FROM t",
    ] {
        let (again, names) = rewritten(sql);
        assert_eq!(again, sql);
        assert!(names.is_empty(), "{sql}: {names:?}");
    }
}

#[test]
fn parameters_next_to_what_hides_them_are_found() {
    assert_eq!(rewritten("SELECT ':x'||:a||$$y$$||:b").1, ["a", "b"]);
    assert_eq!(rewritten("SELECT :a::date, a[ :b ]").0, "SELECT $1::date, a[ $2 ]");
    assert_eq!(rewritten("SELECT 'back\\', :a").1, ["a"]);
    assert_eq!(rewritten("SELECT 1 /* ' */ + :a -- '\n+ :b").1, ["a", "b"]);
    assert_eq!(rewritten("SELECT :a_1, :a_1ü").1, ["a_1"]);
}

#[test]
fn a_closing_semicolon_goes_and_a_second_statement_is_a_fault() {
    assert_eq!(rewritten("SELECT 1 ;; -- done\n /* really */ ;").0, "SELECT 1 ");
    let fault = fault("SELECT 1;\nDELETE FROM t");
    assert_eq!(fault.offset, 10);
    assert!(fault.message.contains("only one statement"), "{}", fault.message);
}

#[test]
fn what_is_not_closed_is_a_fault_at_its_beginning() {
    for (sql, offset) in [
        ("SELECT 'a", 7),
        ("SELECT \"a", 7),
        ("SELECT 1 /* a /* b */", 9),
        ("SELECT $x$ a $y$", 7),
        (r"SELECT E'a\'", 8),
    ] {
        assert_eq!(fault(sql).offset, offset, "{sql}");
    }
}

#[test]
fn only_queries_without_numbered_parameters_pass() {
    for sql in ["", " -- nothing\n", "DELETE FROM t", "PRAGMA x", "ATTACH 'x' AS y", "SELECT $1"] {
        fault(sql);
    }
    for sql in ["select 1", "(SELECT 1) UNION (SELECT 2)", "-- why\nWITH a AS (SELECT 1) SELECT 1"]
    {
        Statement::parse(sql).unwrap();
    }
}

#[test]
fn parameters_of_sqlite_are_noticed() {
    for (sql, found) in [
        ("SELECT ?", Some("?")),
        ("SELECT ?1", Some("?1")),
        ("SELECT @a", Some("@a")),
        ("SELECT $a", Some("$a")),
        ("SELECT a @> b, '?'", None),
    ] {
        assert_eq!(Statement::parse(sql).unwrap().sqlite_parameter(), found, "{sql}");
    }
}
