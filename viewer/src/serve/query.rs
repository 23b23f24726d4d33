//! The parameters of an address: `new=3&function=a%20b`.

use std::fmt::Write;

/// The value of a parameter, the first of that name; `None` where there is none, or one that isn't UTF-8.
pub fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    decode(value)
}

/// Text as it stands in a parameter, or in a cookie.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The text again; a plus is a blank.
pub fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                let digit = |at: usize| char::from(digits[at]).to_digit(16);
                (digit(0)? * 16 + digit(1)?) as u8
            }
            &other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_back() {
        for text in ["", "plain", "a b&c=d+%?#/\"<é\u{202e}\0", "operator<<"] {
            assert_eq!(decode(&encode(text)).as_deref(), Some(text));
            assert_eq!(parameter(Some(&format!("x=1&name={}&y", encode(text))), "name").as_deref(), Some(text));
        }
        assert_eq!(parameter(Some("named=1&name=2&name=3"), "name").as_deref(), Some("2"));
        assert_eq!(decode("a+b").as_deref(), Some("a b"));
        for broken in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
        assert_eq!(parameter(None, "x"), None);
    }
}
