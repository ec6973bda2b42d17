//! Addresses as mail servers take them.

use lettre::{Address, address::AddressError, message::Mailbox};

/// Most characters of an address (RFC 5321, 4.5.3.1, less the angle brackets).
const LONGEST_ADDRESS: usize = 254;

/// The address that a text is, with its domain in ASCII (`münchen.example` is
/// `xn--mnchen-3ya.example`, RFC 5891), as no server need understand anything else. What stands
/// before the @ stays as it is: in other scripts it needs a server with SMTPUTF8 (RFC 6531).
///
/// # Errors
/// Why nothing can be mailed there, to be read after "the address".
pub fn address(text: &str) -> Result<Address, &'static str> {
    // First: what a domain of another script is in ASCII takes long to find out.
    if text.len() > 4 * LONGEST_ADDRESS || text.chars().count() > LONGEST_ADDRESS {
        return Err("is longer than 254 characters");
    }
    if text.chars().any(char::is_control) {
        return Err("has a control character");
    }
    let (user, domain) = text.rsplit_once('@').ok_or("has no @")?;
    let domain = match domain.is_ascii() {
        true => domain.to_owned(),
        false => in_ascii(domain).ok_or(NO_DOMAIN)?,
    };
    if user.len() + 1 + domain.len() > LONGEST_ADDRESS {
        return Err("is longer than 254 characters");
    }
    Address::new(user, domain).map_err(|error| match error {
        AddressError::InvalidUser => "has something before the @ that no address has",
        _ => NO_DOMAIN,
    })
}

const NO_DOMAIN: &str = "has no domain after the @";

fn in_ascii(domain: &str) -> Option<String> {
    // Of a host in a URL %41 is an A; of a domain it is nothing.
    match url::Host::parse(domain).ok().filter(|_| !domain.contains('%'))? {
        url::Host::Domain(ascii) => Some(ascii),
        url::Host::Ipv4(_) | url::Host::Ipv6(_) => None,
    }
}

/// `Name <address>` or an address.
pub(super) fn mailbox(text: &str) -> Result<Mailbox, &'static str> {
    if text.chars().any(char::is_control) {
        return Err("has a control character");
    }
    let Mailbox { name, email } = text.parse().map_err(|_| "is none")?;
    Ok(Mailbox::new(name.filter(|name| !name.trim().is_empty()), address(email.as_ref())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_become_ascii_and_what_cannot_be_mailed_says_why() {
        for (text, ascii) in [
            ("amy@example.com", "amy@example.com"),
            ("info@bücher.example", "info@xn--bcher-kva.example"),
            ("info@BÜCHER.example", "info@xn--bcher-kva.example"),
            ("почта@пример.example", "почта@xn--e1afmkfd.example"),
            ("a+b@xn--bcher-kva.example", "a+b@xn--bcher-kva.example"),
        ] {
            assert_eq!(address(text).map(|a| a.to_string()).as_deref(), Ok(ascii), "{text}");
        }
        let long = format!("amy@{}.example", "a".repeat(250));
        let grows = format!("amy@{}", "ü.".repeat(120) + "example");
        for (text, why) in [
            ("", "has no @"),
            ("amy", "has no @"),
            ("a\r\nBcc: b@example.com", "has a control character"),
            ("@example.com", "has something before the @ that no address has"),
            ("amy@", "has no domain after the @"),
            ("amy@exa mple.com", "has no domain after the @"),
            ("amy@１２７.1", "has no domain after the @"),
            ("amy@ü%41.example", "has no domain after the @"),
            (&long, "is longer than 254 characters"),
            (&grows, "is longer than 254 characters"),
        ] {
            assert_eq!(address(text), Err(why), "{text}");
        }
    }
}
