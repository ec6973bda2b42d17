//! Helpers for a host application's minijinja templates: the hidden input that carries a token on
//! to the next form, and the query string that carries it on to the next link.

use minijinja::{AutoEscape, Environment, State, Value};

/// The variable that the helpers read: the JWT, as text.
pub const VARIABLE: &str = "request_token";

/// Adds two functions to an environment. Both read the variable `request_token` of the template's
/// context and give nothing when it is not there:
///
/// - `request_token_input()`: `<input type="hidden" name="rt" value="…">`
/// - `request_token_querystring()`: `?rt=…`
///
/// `name` is the configured name, `rt` by default.
pub fn add_functions(env: &mut Environment<'_>, name: impl Into<String>) {
    let name = name.into();
    let field = name.clone();
    env.add_function("request_token_input", move |state: &State<'_, '_>| {
        Value::from_safe_string(jwt(state).map_or(String::new(), |jwt| hidden_input(&field, &jwt)))
    });
    env.add_function("request_token_querystring", move |state: &State<'_, '_>| {
        let text = jwt(state).map_or(String::new(), |jwt| querystring(&name, &jwt));
        match state.auto_escape() {
            // Nothing in it needs escaping.
            AutoEscape::Html => Value::from_safe_string(text),
            _ => Value::from(text),
        }
    });
}

fn jwt(state: &State<'_, '_>) -> Option<String> {
    let value = state.lookup(VARIABLE)?;
    value.as_str().filter(|jwt| !jwt.is_empty()).map(str::to_owned)
}

/// `<input type="hidden" name="rt" value="…">`, escaped.
pub fn hidden_input(name: &str, jwt: &str) -> String {
    let (name, jwt) = (escaped(name), escaped(jwt));
    format!("<input type=\"hidden\" name=\"{name}\" value=\"{jwt}\">")
}

/// `?rt=…`, percent-encoded.
pub fn querystring(name: &str, jwt: &str) -> String {
    let pair = url::form_urlencoded::Serializer::new(String::new()).append_pair(name, jwt).finish();
    format!("?{pair}")
}

fn escaped(text: &str) -> String {
    minijinja::HtmlEscape(text).to_string()
}
