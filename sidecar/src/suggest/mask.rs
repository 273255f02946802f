//! Which columns look as if they held something personal or secret, and which mask would fit. Pure.
//!
//! A guess by name and type, and by values where there are some. It errs towards a mask: one too many is seen by who
//! reads the suggestion, one that is missing is not.

use postern_crds::MaskKind;

/// What a column seems to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// Passwords, keys, tokens.
    Secrets,
    /// Numbers of payment cards.
    Cards,
    /// Numbers of bank accounts.
    Accounts,
    /// Numbers that a state gave to a person.
    IdentityNumbers,
    /// E-mail addresses.
    Emails,
    /// Telephone numbers.
    Phones,
    /// Names of people.
    Names,
    /// Dates of birth.
    Births,
    /// Where people live.
    Addresses,
    /// Where something or somebody is.
    Places,
    /// What people earn.
    Pay,
    /// Health, belief, origin.
    Sensitive,
}

impl Holds {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Holds::Secrets => "secrets",
            Holds::Cards => "card numbers",
            Holds::Accounts => "bank accounts",
            Holds::IdentityNumbers => "identity numbers",
            Holds::Emails => "e-mail addresses",
            Holds::Phones => "phone numbers",
            Holds::Names => "names of people",
            Holds::Births => "dates of birth",
            Holds::Addresses => "addresses of people",
            Holds::Places => "whereabouts",
            Holds::Pay => "pay",
            Holds::Sensitive => "health, belief or origin",
        }
    }
}

/// Types, as far as masks and guesses tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Text,
    Whole,
    /// numeric and floating point; digits before the point, if they are limited.
    Decimal(Option<u32>),
    Date,
    Bool,
    Uuid,
    Other,
}

fn family(type_sql: &str) -> Family {
    if type_sql.ends_with("[]") {
        return Family::Other;
    }
    let (name, modifier) = type_sql.split_once('(').unwrap_or((type_sql, ""));
    let name = name.rsplit_once('.').map_or(name, |(_, name)| name).trim();
    match name {
        "text" | "character varying" | "character" | "varchar" | "char" | "bpchar" | "citext" | "name" => Family::Text,
        "smallint" | "integer" | "bigint" => Family::Whole,
        "real" | "double precision" => Family::Decimal(None),
        "numeric" => {
            let numbers: Vec<u32> =
                modifier.trim_end_matches(')').split(',').filter_map(|n| n.trim().parse().ok()).collect();
            match numbers.as_slice() {
                [precision, scale] => Family::Decimal(Some(precision.saturating_sub(*scale))),
                [precision] => Family::Decimal(Some(*precision)),
                _ => Family::Decimal(None),
            }
        }
        "date" | "timestamp" | "timestamp without time zone" | "timestamp with time zone" => Family::Date,
        "boolean" => Family::Bool,
        "uuid" => Family::Uuid,
        _ => Family::Other,
    }
}

/// Words of names and what they say; the first that is found counts. Two words may also be written as one.
const PHRASES: &[(Holds, &[&str])] = &[
    (Holds::Addresses, &["pin code", "zip", "zip code", "postal code", "post code"]),
    (
        Holds::Secrets,
        &[
            "password",
            "passwd",
            "pwd",
            "passphrase",
            "pass phrase",
            "passcode",
            "secret",
            "api key",
            "private key",
            "access key",
            "session key",
            "session id",
            "signing key",
            "encryption key",
            "client key",
            "token",
            "bearer",
            "credential",
            "credentials",
            "otp",
            "totp",
            "mfa",
            "salt",
            "pin",
            "cvv",
            "cvc",
            "security answer",
            "recovery code",
            "recovery codes",
            "backup codes",
            "connection string",
            "ssh key",
        ],
    ),
    (
        Holds::Cards,
        &["card number", "card no", "card num", "credit card", "debit card", "cc number", "cc num", "ccn", "pan"],
    ),
    (
        Holds::Accounts,
        &["iban", "bank account", "account number", "account no", "acct number", "routing number", "sort code"],
    ),
    (
        Holds::IdentityNumbers,
        &[
            "ssn",
            "social security",
            "national id",
            "national insurance",
            "tax id",
            "tax number",
            "tin",
            "itin",
            "passport",
            "passport id",
            "drivers license",
            "driver license",
            "drivers licence",
            "driver licence",
            "license number",
            "licence number",
            "identity number",
            "id number",
            "id card",
            "personal number",
            "nino",
            "cpf",
            "curp",
            "bsn",
            "medical record number",
            "mrn",
        ],
    ),
    (Holds::Emails, &["email", "e mail", "mail", "mail address"]),
    (Holds::Phones, &["phone", "telephone", "tel", "mobile", "cell phone", "fax", "msisdn"]),
    (
        Holds::Names,
        &[
            "first name",
            "last name",
            "full name",
            "middle name",
            "given name",
            "family name",
            "maiden name",
            "surname",
            "forename",
            "fname",
            "lname",
            "nick name",
            "real name",
            "legal name",
            "card holder",
            "account holder",
            "customer name",
            "patient name",
            "employee name",
            "contact name",
            "recipient name",
            "person name",
        ],
    ),
    (Holds::Births, &["birth", "birth date", "birth day", "date of birth", "dob", "born", "born on"]),
    (
        Holds::Addresses,
        &[
            "address",
            "addr",
            "street",
            "street address",
            "house number",
            "address line",
            "ip",
            "ip address",
            "ip addr",
            "remote addr",
            "mac address",
        ],
    ),
    (Holds::Places, &["latitude", "longitude", "lat", "lng", "lon", "geo location", "coordinates", "gps"]),
    (
        Holds::Pay,
        &["salary", "wage", "wages", "income", "compensation", "bonus", "pay rate", "hourly rate", "net worth"],
    ),
    (
        Holds::Sensitive,
        &[
            "diagnosis",
            "diagnoses",
            "medical",
            "blood type",
            "disability",
            "religion",
            "ethnicity",
            "gender",
            "sexual orientation",
            "political",
            "health",
            "prescription",
            "allergies",
        ],
    ),
];

/// A name that ends in one of these says something about the value, and does not hold it.
const ABOUT: &[&str] = &[
    "id",
    "ids",
    "uuid",
    "count",
    "type",
    "kind",
    "status",
    "state",
    "at",
    "date",
    "time",
    "verified",
    "confirmed",
    "enabled",
    "valid",
    "flag",
    "sent",
    "format",
    "template",
    "subject",
    "length",
    "version",
    "provider",
    "domain",
    "policy",
    "attempts",
    "expiry",
    "expires",
    "ttl",
    "label",
    "category",
    "source",
    "preferences",
    "settings",
    "name",
    "language",
    "opt",
    "required",
    "used",
    "limit",
    "size",
    "changed",
    "updated",
    "created",
];

/// Relations whose `name` is that of a person.
const PEOPLE: &[&str] = &[
    "user",
    "customer",
    "person",
    "people",
    "employee",
    "patient",
    "contact",
    "member",
    "student",
    "subscriber",
    "guest",
    "passenger",
    "driver",
    "client",
    "applicant",
    "candidate",
    "staff",
    "recipient",
    "attendee",
];

/// What a column seems to hold, by its name and type.
pub fn by_name(relation: &str, column: &str, type_sql: &str) -> Option<Holds> {
    let family = family(type_sql);
    let words = words(column);
    let last = words.last()?.as_str();
    let joined = format!(" {} ", words.join(" "));
    let said = |phrase: &&&str| {
        joined.contains(&format!(" {phrase} ")) || words.iter().any(|word| *word == phrase.replace(' ', ""))
    };
    let found = PHRASES.iter().find_map(|(holds, phrases)| {
        // The longest, since it may end in what would else only be about the value: `tax id`.
        let phrase = phrases.iter().filter(said).max_by_key(|phrase| phrase.len())?;
        Some((*holds, *phrase))
    });
    let (holds, phrase) = match found {
        Some(found) => found,
        None if words == ["name"] && is_of_people(relation) => (Holds::Names, "name"),
        None => return None,
    };
    if ABOUT.contains(&last) && !phrase.ends_with(last) {
        return None;
    }
    let is_digits = matches!(holds, Holds::Cards | Holds::Accounts | Holds::IdentityNumbers | Holds::Phones)
        || ["pin", "cvv", "cvc", "otp", "totp"].contains(&phrase);
    let fits = match family {
        Family::Bool => false,
        Family::Date => holds == Holds::Births,
        Family::Uuid => holds == Holds::Secrets && last != "id",
        // A whole number may as well be the key of what it is called after.
        Family::Whole => last != "id" && (is_digits || holds == Holds::Pay),
        Family::Decimal(_) => matches!(holds, Holds::Pay | Holds::Places),
        Family::Text => true,
        Family::Other => !matches!(holds, Holds::Births | Holds::Pay),
    };
    fits.then_some(holds)
}

/// The words of a name in lower case: parted by what is no letter, and by capitals.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_is_lower = false;
    for character in name.chars() {
        if !character.is_alphabetic() || (character.is_uppercase() && before_is_lower) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| character.is_alphabetic()) {
            word.extend(character.to_lowercase());
        }
        before_is_lower = character.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_of_people(relation: &str) -> bool {
    words(relation).last().is_some_and(|last| {
        let singular = last.strip_suffix('s').unwrap_or(last);
        PEOPLE.contains(&singular) || PEOPLE.contains(&last.as_str())
    })
}

/// Masks for what a column holds, the one that suits best first. The last fits most types.
pub fn masks(holds: Holds, type_sql: &str) -> Vec<MaskKind> {
    let family = family(type_sql);
    let partial = |keep_first, keep_last| MaskKind::Partial { keep_first, keep_last, with: '*' };
    let suits = match (family, holds) {
        (Family::Text, Holds::Emails) => Some(MaskKind::Email),
        (Family::Text, Holds::Cards | Holds::Accounts) => Some(partial(0, 4)),
        (Family::Text, Holds::Phones) => Some(partial(0, 2)),
        (Family::Text, Holds::Names) => Some(partial(1, 0)),
        // How long a secret is tells something.
        (Family::Text, Holds::Secrets) => None,
        (Family::Text, _) => Some(MaskKind::Redact),
        (Family::Date, Holds::Births) => Some(MaskKind::TruncateDate { to: "year".into() }),
        (Family::Whole, Holds::Pay) if type_sql != "smallint" => Some(MaskKind::Bucket { size: "10000".into() }),
        (Family::Decimal(digits), Holds::Pay) if digits.is_none_or(|digits| digits >= 5) => {
            Some(MaskKind::Bucket { size: "10000".into() })
        }
        (Family::Decimal(digits), Holds::Places) if digits != Some(0) => Some(MaskKind::Bucket { size: "1".into() }),
        _ => None,
    };
    suits.into_iter().chain([MaskKind::Default, MaskKind::Nullify]).collect()
}

/// What a sample of a column's values looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// What most of them look like, and how many do.
    pub holds: Option<(Holds, usize)>,
    /// How many have an e-mail address in a longer text.
    pub mentions: usize,
    /// How many there are.
    pub values: usize,
}

/// Looks at values; empty ones don't count.
pub fn by_values<'v>(values: impl Iterator<Item = &'v str>) -> Sampled {
    type Test = (Holds, fn(&str) -> bool);
    let tests: [Test; 6] = [
        (Holds::Secrets, is_secret),
        (Holds::Emails, is_email),
        (Holds::Accounts, is_iban),
        (Holds::Cards, is_card),
        (Holds::IdentityNumbers, is_ssn),
        (Holds::Phones, is_phone),
    ];
    let mut hits = [0_usize; 6];
    let mut sampled = Sampled::default();
    for value in values.map(str::trim).filter(|value| !value.is_empty()) {
        sampled.values += 1;
        for ((_, test), hits) in tests.iter().zip(&mut hits) {
            *hits += usize::from(test(value));
        }
        sampled.mentions += usize::from(!is_email(value) && mentions_email(value));
    }
    // Numbers may look like something by accident, which addresses and tokens don't.
    let enough = |holds: Holds, hits: usize| match holds {
        Holds::Secrets | Holds::Emails | Holds::Accounts => hits >= 1,
        _ => hits >= 3,
    };
    sampled.holds = tests
        .iter()
        .zip(hits)
        .map(|((holds, _), hits)| (*holds, hits))
        .find(|(holds, hits)| enough(*holds, *hits) && hits * 2 >= sampled.values);
    sampled
}

fn is_email(value: &str) -> bool {
    let Some((local, domain)) = value.split_once('@') else { return false };
    let is_of_domain = |c: char| c.is_alphanumeric() || c == '.' || c == '-';
    !local.is_empty()
        && value.len() <= 320
        && !local.contains(|c: char| c.is_whitespace() || "<>(),;:\"".contains(c))
        && domain.chars().all(is_of_domain)
        && domain.rsplit_once('.').is_some_and(|(name, top)| !name.is_empty() && top.len() >= 2)
}

fn mentions_email(value: &str) -> bool {
    let is_apart = |c: char| c.is_whitespace() || "<>(),;:\"'[]{}=".contains(c);
    value.split(is_apart).any(|word| is_email(word.trim_matches('.')))
}

/// The digits of a number that may be written in groups; None if there is anything else.
fn digits(value: &str, groups: &[char]) -> Option<Vec<u32>> {
    value.chars().filter(|c| !groups.contains(c)).map(|c| c.to_digit(10)).collect()
}

fn is_card(value: &str) -> bool {
    let Some(digits) = digits(value, &[' ', '-']) else { return false };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match at % 2 {
            0 => *digit,
            _ => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    (13..=19).contains(&digits.len())
        && digits.first().is_some_and(|first| (2..=6).contains(first))
        && sum.is_multiple_of(10)
}

fn is_iban(value: &str) -> bool {
    let value: String = value.chars().filter(|c| *c != ' ').collect();
    let Some((head, tail)) = value.split_at_checked(4) else { return false };
    let is_head =
        head.chars().take(2).all(|c| c.is_ascii_uppercase()) && head.chars().skip(2).all(|c| c.is_ascii_digit());
    if !is_head || !(15..=34).contains(&value.len()) || !tail.chars().all(|c| c.is_ascii_alphanumeric()) {
        return false;
    }
    let rest = tail.chars().chain(head.chars()).filter_map(|c| c.to_digit(36)).fold(0, |rest, digit| match digit {
        0..=9 => (rest * 10 + digit) % 97,
        _ => (rest * 100 + digit) % 97,
    });
    rest == 1
}

fn is_ssn(value: &str) -> bool {
    value.split('-').map(|part| part.chars().all(|c| c.is_ascii_digit()).then_some(part.len())).eq([
        Some(3),
        Some(2),
        Some(4),
    ])
}

fn is_phone(value: &str) -> bool {
    let starts = value.starts_with(['+', '(']) || value.starts_with("00");
    let number = value.strip_prefix('+').unwrap_or(value);
    starts && digits(number, &[' ', '-', '.', '/', '(', ')']).is_some_and(|digits| (8..=15).contains(&digits.len()))
}

fn is_secret(value: &str) -> bool {
    const STARTS: &[&str] = &[
        "$2a$",
        "$2b$",
        "$2y$",
        "$argon2",
        "$pbkdf2",
        "$scrypt$",
        "$5$",
        "$6$",
        "$y$",
        "pbkdf2_sha",
        "bcrypt_sha256$",
        "SCRAM-SHA-256$",
        "{SSHA}",
        "sk_live_",
        "sk_test_",
        "rk_live_",
        "ghp_",
        "gho_",
        "ghs_",
        "github_pat_",
        "glpat-",
        "xoxb-",
        "xoxp-",
        "AKIA",
        "ASIA",
        "-----BEGIN",
        "ssh-rsa ",
        "ssh-ed25519 ",
    ];
    let is_jwt = value.starts_with("eyJ") && value.split('.').count() == 3;
    is_jwt || (value.len() >= 16 && STARTS.iter().any(|start| value.starts_with(start)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn names_with_their_types_tell_what_a_column_holds() {
        for (relation, column, type_sql, expected) in [
            ("customers", "email", "text", Some(Holds::Emails)),
            ("customers", "EmailAddress", "character varying(254)", Some(Holds::Emails)),
            ("customers", "email", "public.citext", Some(Holds::Emails)),
            ("customers", "email_verified", "boolean", None),
            ("customers", "email_verified_at", "timestamp with time zone", None),
            ("emails", "email_id", "integer", None),
            ("mail", "email_template", "text", None),
            ("customers", "card_number", "text", Some(Holds::Cards)),
            ("customers", "cardnumber", "bigint", Some(Holds::Cards)),
            ("customers", "card_id", "bigint", None),
            ("customers", "ssn", "text", Some(Holds::IdentityNumbers)),
            ("people", "tax_id", "text", Some(Holds::IdentityNumbers)),
            ("orders", "tax_id", "integer", None),
            ("auth_user", "password", "character varying(128)", Some(Holds::Secrets)),
            ("users", "passwordHash", "text", Some(Holds::Secrets)),
            ("users", "password_changed_at", "timestamp without time zone", None),
            ("apps", "api_key", "text", Some(Holds::Secrets)),
            ("apps", "apikey", "uuid", Some(Holds::Secrets)),
            ("llm", "token_count", "integer", None),
            ("llm", "tokens", "integer", None),
            ("django_session", "session_key", "character varying(40)", Some(Holds::Secrets)),
            ("users", "first_name", "text", Some(Holds::Names)),
            ("users", "lastname", "text", Some(Holds::Names)),
            ("customers", "name", "text", Some(Holds::Names)),
            ("public_people", "name", "text", Some(Holds::Names)),
            ("products", "name", "text", None),
            ("customer_groups", "name", "text", None),
            ("users", "birth_date", "date", Some(Holds::Births)),
            ("users", "dob", "date", Some(Holds::Births)),
            ("users", "created", "date", None),
            ("employees", "salary", "numeric(10,2)", Some(Holds::Pay)),
            ("employees", "salary_currency_id", "integer", None),
            ("users", "phone_1", "text", Some(Holds::Phones)),
            ("users", "mobile", "boolean", None),
            ("users", "address_id", "integer", None),
            ("users", "address_line1", "text", Some(Holds::Addresses)),
            ("logins", "ip", "inet", Some(Holds::Addresses)),
            ("orders", "ship", "text", None),
            ("orders", "total", "numeric", None),
            ("orders", "pinned", "text", None),
            ("stops", "lat", "double precision", Some(Holds::Places)),
            ("tags", "1", "text", None),
            ("tags", "", "text", None),
        ] {
            assert_eq!(by_name(relation, column, type_sql), expected, "{relation}.{column} {type_sql}");
        }
    }

    #[test]
    fn a_mask_suits_what_the_column_holds_and_its_type() {
        let first = |holds, type_sql| masks(holds, type_sql).into_iter().next().unwrap();
        for (holds, type_sql, expected) in [
            (Holds::Emails, "text", MaskKind::Email),
            (Holds::Emails, "text[]", MaskKind::Default),
            (Holds::Secrets, "text", MaskKind::Default),
            (Holds::IdentityNumbers, "character varying(11)", MaskKind::Redact),
            (Holds::Cards, "bigint", MaskKind::Default),
            (Holds::Births, "timestamp with time zone", MaskKind::TruncateDate { to: "year".into() }),
            (Holds::Births, "text", MaskKind::Redact),
            (Holds::Pay, "numeric(10,2)", MaskKind::Bucket { size: "10000".into() }),
            (Holds::Pay, "numeric(6,2)", MaskKind::Default),
            (Holds::Pay, "smallint", MaskKind::Default),
            (Holds::Places, "numeric(9,6)", MaskKind::Bucket { size: "1".into() }),
        ] {
            assert_eq!(first(holds, type_sql), expected, "{holds:?} {type_sql}");
            assert_eq!(masks(holds, type_sql).last(), Some(&MaskKind::Nullify));
        }
    }

    #[test]
    fn values_tell_what_a_column_holds_if_most_of_them_do() {
        for (values, expected) in [
            (&["a@example.com", "b.c@x.org", "", "unknown"][..], Some((Holds::Emails, 2))),
            (&["a@example.com", "x", "y"], None),
            (&["4111 1111 1111 1111", "5500-0000-0000-0004", "340000000000009"], Some((Holds::Cards, 3))),
            (&["4111111111111111"], None),
            (&["4111111111111112", "1234567890123", "99", "5"], None),
            (&["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"], Some((Holds::Accounts, 2))),
            (&["DE89 3704 0044 0532 0130 01"], None),
            (&["078-05-1120", "219-09-9999", "457-55-5462"], Some((Holds::IdentityNumbers, 3))),
            (&["+49 731 123456", "(020) 7946-0991", "0044 20 7946 0991"], Some((Holds::Phones, 3))),
            (&["2024-01-02", "2024-02-03", "2024-02-04"], None),
            (&["eyJhbGciOiJIUzI1NiJ9.e30.x"], Some((Holds::Secrets, 1))),
            (&["$2b$12$abcdefghijklmnopqrstuv"], Some((Holds::Secrets, 1))),
            (&["one", "two"], None),
            (&[], None),
        ] {
            assert_eq!(by_values(values.iter().copied()).holds, expected, "{values:?}");
        }
    }

    #[test]
    fn addresses_within_longer_texts_are_counted_apart() {
        let sampled =
            by_values(["call <a@example.com>, please", "{\"to\": \"b@x.org\"}", "no", "@you", "c@x.org"].into_iter());
        assert_eq!((sampled.mentions, sampled.values, sampled.holds), (2, 5, None));
    }
}
