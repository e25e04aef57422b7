//! `/where` on the admin listener: a form on which people ask where a request would go, and the answer below it. No script,
//! nothing from another host; the token is a field, because a browser sends no bearer token by itself.

use crate::{choose::decoded, server::Reply};
use bytes::Bytes;
use contract::decision::{Decision, Question};
use http::{HeaderValue, Response, StatusCode, header};
use std::fmt::Write;

/// Nothing is loaded but our own style sheet, nothing is sent but our own form, nobody frames it.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The style sheet.
const STYLE: &str = "body{font:16px/1.5 sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}\
label{display:block;margin:.5rem 0}input,textarea,select{font:inherit;width:100%;box-sizing:border-box}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.2rem .5rem;border-bottom:1px solid #8888}\
.yes{font-weight:bold}.bad{color:#b00020}";

/// What the form sends.
#[derive(Debug, Default)]
pub struct Form {
    /// The admin token.
    pub token: String,
    /// The question.
    pub question: Question,
    /// What is written in the field for the client, if it is no address.
    pub bad_client: Option<String>,
}

impl Form {
    /// Reads a form's body (`application/x-www-form-urlencoded`).
    pub fn read(body: &[u8]) -> Form {
        let mut form = Form::default();
        for pair in body.split(|b| *b == b'&') {
            let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let (name, value) = pair.split_at(at);
            let value = decoded(value.strip_prefix(b"=").unwrap_or_default());
            form.take(name, String::from_utf8_lossy(&value).into_owned());
        }
        form
    }

    fn take(&mut self, name: &[u8], value: String) {
        match name {
            b"token" => self.token = value,
            b"method" => self.question.method = value,
            b"url" => self.question.url = value,
            b"headers" => {
                let lines = value.lines().map(str::trim).filter(|l| !l.is_empty());
                self.question.headers = lines.map(str::to_owned).collect();
            }
            b"client" if !value.trim().is_empty() => {
                self.question.client = value.trim().parse().ok();
                self.bad_client = self.question.client.is_none().then_some(value);
            }
            _ => {}
        }
    }
}

/// The style sheet.
pub fn style() -> Reply {
    reply(StatusCode::OK, "text/css; charset=utf-8", STYLE.to_owned())
}

/// The page, with what was asked and its answer.
pub fn page(form: &Form, answer: Option<Result<Decision, String>>) -> Reply {
    let status = match &answer {
        Some(Err(_)) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    };
    let told = answer.map(|a| a.map_or_else(|why| error(&why), |d| decision(&d)));
    let text = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Serin: where would it go?</title>\
         <link rel=\"stylesheet\" href=\"/where.css\"><h1>Where would this request go?</h1>{}{}</html>\n",
        fields(form),
        told.unwrap_or_default()
    );
    reply(status, "text/html; charset=utf-8", text)
}

fn reply(status: StatusCode, kind: &'static str, text: String) -> Reply {
    let mut reply = Response::new(Bytes::from(text));
    *reply.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    reply
}

fn fields(form: &Form) -> String {
    let question = &form.question;
    let client = question.client.map(|c| c.to_string());
    format!(
        "<form method=\"post\" action=\"/where\">\
         <label>Admin token <input name=\"token\" type=\"password\" required value=\"{}\"></label>\
         <label>Method <input name=\"method\" required value=\"{}\"></label>\
         <label>URL, or path <input name=\"url\" required value=\"{}\"></label>\
         <label>Headers, one a line <textarea name=\"headers\" rows=\"5\" placeholder=\"x-canary: always\">{}</textarea></label>\
         <label>Address of the client <input name=\"client\" placeholder=\"127.0.0.1\" value=\"{}\"></label>\
         <button>Ask</button></form>",
        escaped(&form.token),
        escaped(&question.method),
        escaped(&question.url),
        escaped(&question.headers.join("\n")),
        escaped(&client.or_else(|| form.bad_client.clone()).unwrap_or_default()),
    )
}

fn error(why: &str) -> String {
    format!("<p class=\"bad\">{}</p>", escaped(why))
}

fn decision(told: &Decision) -> String {
    if let Some(refused) = &told.refused {
        return error(&format!("Refused with {}: {}", refused.status, refused.error));
    }
    let mut out = format!(
        "<h2>{}</h2><p>Service <b>{}</b>, split {}, hash {}</p><table><tr><th>Step<th>What was found</tr>",
        escaped(&told.headline()),
        escaped(&told.service),
        escaped(&told.split),
        escaped(&told.hash)
    );
    // A text takes everything that is written to it.
    for step in &told.steps {
        let class = if step.decides { " class=\"yes\"" } else { "" };
        let (name, why) = (escaped(&step.step), escaped(&step.why));
        let _ = write!(out, "<tr{class}><td>{name}<td>{why}</tr>");
    }
    out.push_str("</table><ul>");
    for line in &told.outcome {
        let _ = write!(out, "<li>{}", escaped(line));
    }
    out.push_str("</ul>");
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read() {
        let form = Form::read(
            b"token=a%20b&method=POST&url=%2Fx%3Fy&headers=h%3A+1%0D%0A%0D%0Ai%3A2&client=10.0.0.1",
        );
        assert_eq!(
            (form.token.as_str(), form.question.method.as_str()),
            ("a b", "POST")
        );
        assert_eq!(form.question.url, "/x?y");
        assert_eq!(form.question.headers, ["h: 1", "i:2"]);
        assert_eq!(form.question.client, Some([10, 0, 0, 1].into()));
        assert!(Form::read(b"client=x").bad_client.is_some());
        Form::read(b"&&=&%");
    }

    #[test]
    fn what_was_typed_is_no_markup() {
        let mut form = Form::default();
        form.question.url = "\"><script>".into();
        form.question.headers = vec!["</textarea><img src=x>".into()];
        let page = page(&form, Some(Err("<b>".into())));
        let text = String::from_utf8(page.body().to_vec()).unwrap();
        for tag in ["<script", "<img", "<b>"] {
            assert!(!text.contains(tag), "{text}");
        }
    }
}
