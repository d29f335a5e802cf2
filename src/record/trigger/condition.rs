//! What a trigger waits for, as it is typed: `exit-code!=0`, `http-status>=500`, `rss>2GB`,
//! `cpu>90%`, `signal`, `text=REGEX`.

use std::fmt;
use std::str::FromStr;

use super::text::Pattern;
use crate::record::values::parse_size;

/// How a number is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    More,
    /// `>=`
    AtLeast,
    /// `<`
    Less,
    /// `<=`
    AtMost,
}

impl Compare {
    /// All, those first that begin with another.
    const ALL: [(&'static str, Self); 7] = [
        ("!=", Self::NotEqual),
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        ("==", Self::Equal),
        ("=", Self::Equal),
        (">", Self::More),
        ("<", Self::Less),
    ];

    /// Whether it holds between what was found and what was asked for.
    #[must_use]
    pub fn holds(self, found: f64, asked: f64) -> bool {
        match self {
            Self::Equal => found == asked,
            Self::NotEqual => found != asked,
            Self::More => found > asked,
            Self::AtLeast => found >= asked,
            Self::Less => found < asked,
            Self::AtMost => found <= asked,
        }
    }

    fn sign(self) -> &'static str {
        let is_self = |entry: &&(&'static str, Self)| entry.1 == self && entry.0 != "==";
        Self::ALL.iter().find(is_self).map_or("", |(sign, _)| *sign)
    }
}

/// What a trigger waits for.
#[derive(Clone, Debug)]
pub enum Condition {
    /// A process exited by itself with such a code.
    ExitCode(Compare, u16),
    /// A signal ended a process: this one, or any.
    Signal(Option<i32>),
    /// An HTTP/1 response came with such a status.
    HttpStatus(Compare, u16),
    /// A process has so much resident memory, in bytes.
    Rss(Compare, u64),
    /// A process used so much CPU since its last sample; 100 is one core.
    Cpu(Compare, f64),
    /// Plaintext matches, in either direction and across calls.
    Text(Pattern),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExitCode(compare, code) => write!(f, "exit-code{}{code}", compare.sign()),
            Self::Signal(None) => f.write_str("signal"),
            Self::Signal(Some(signal)) => write!(f, "signal={signal}"),
            Self::HttpStatus(compare, status) => {
                write!(f, "http-status{}{status}", compare.sign())
            }
            Self::Rss(compare, bytes) => write!(f, "rss{}{bytes}B", compare.sign()),
            Self::Cpu(compare, percent) => write!(f, "cpu{}{percent}%", compare.sign()),
            Self::Text(pattern) => write!(f, "text={}", pattern.as_str()),
        }
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(pattern) = text.strip_prefix("text=") {
            return Pattern::new(pattern).map(Self::Text);
        }
        if text == "signal" {
            return Ok(Self::Signal(None));
        }
        let expected = || {
            format!(
                "expected exit-code!=0, signal, http-status>=500, rss>2GB, cpu>90% or text=REGEX, found {text:?}"
            )
        };
        let name_end = text.find(['=', '!', '<', '>']).ok_or_else(expected)?;
        let (name, rest) = text.split_at(name_end);
        let signs = Compare::ALL.iter();
        let (value, compare) = signs
            .filter_map(|(sign, compare)| Some((rest.strip_prefix(sign)?.trim(), *compare)))
            .next()
            .ok_or_else(expected)?;
        let number = |least: u16, most: u16| {
            let number = value.parse::<u16>().ok();
            number.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
                format!(
                    "{}: expected a number from {least} to {most}, found {value:?}",
                    name.trim()
                )
            })
        };
        match name.trim() {
            "exit-code" => Ok(Self::ExitCode(compare, number(0, 255)?)),
            "signal" if compare == Compare::Equal => {
                Ok(Self::Signal(Some(i32::from(number(1, 64)?))))
            }
            "signal" => Err(format!("signal: expected signal or signal=NUMBER, found {text:?}")),
            "http-status" => Ok(Self::HttpStatus(compare, number(100, 999)?)),
            "rss" => parse_size(value)
                .map(|bytes| Self::Rss(compare, bytes))
                .map_err(|error| format!("rss: {error}")),
            "cpu" => {
                let percent = value.strip_suffix('%').unwrap_or(value).trim().parse::<f64>().ok();
                let percent = percent.filter(|percent| percent.is_finite() && *percent >= 0.0);
                let expected =
                    || format!("cpu: expected a percentage such as 90%, found {value:?}");
                percent.map(|percent| Self::Cpu(compare, percent)).ok_or_else(expected)
            }
            _ => Err(expected()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_told_as_they_were_asked_for() {
        for text in [
            "exit-code!=0",
            "exit-code=137",
            "signal",
            "signal=9",
            "http-status>=500",
            "http-status<400",
            "rss>2147483648B",
            "rss<=1B",
            "cpu>90%",
            "text=rate.?limit|over=load",
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
        assert_eq!(" rss > 2GB ".parse::<Condition>().unwrap().to_string(), "rss>2147483648B");
        assert_eq!("exit-code==3".parse::<Condition>().unwrap().to_string(), "exit-code=3");
    }

    #[test]
    fn what_is_no_condition_is_refused_with_what_would_be_one() {
        for (text, word) in [
            ("", "text=REGEX"),
            ("exit-code", "exit-code!=0"),
            ("exit-code!=256", "from 0 to 255"),
            ("exit-code!0", "exit-code!=0"),
            ("signal>3", "signal=NUMBER"),
            ("http-status=ok", "from 100 to 999"),
            ("rss>2", "unit"),
            ("rss>2m", "2MB"),
            ("cpu>nan%", "90%"),
            ("load>3", "cpu>90%"),
            ("text=(", "regular expression"),
        ] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
