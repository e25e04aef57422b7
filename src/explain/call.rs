//! `GET /rollouts/NAME/words`: what `serin explain` prints, for whoever reads it on the page.

use super::{Account, of_decision, page};
use controller::Handler;
use hyper::{Method, Request, Response, body::Bytes, header};
use proxy::contract::explanation::Explanation;
use serde::de::DeserializeOwned;

/// The words, or why there are none; `None`: something else is asked for.
pub async fn answer(handler: &Handler, request: &Request<Bytes>) -> Option<Response<Bytes>> {
    let parts = handler.parts(request.uri().path())?;
    let (&Method::GET, [name, "words"]) = (request.method(), parts.as_slice()) else {
        return None;
    };
    let which = request.uri().query().and_then(|q| q.strip_prefix("decision="));
    Some(match account(handler, name, which).await {
        Ok(account) => plain(page::page(&account)),
        Err(refused) => *refused,
    })
}

async fn account(
    handler: &Handler,
    name: &str,
    which: Option<&str>,
) -> Result<Account, Box<Response<Bytes>>> {
    let path = format!("/rollouts/{name}");
    let status = get(handler, &path).await?;
    if let Some(which) = which {
        return Ok(of_decision(
            status,
            get(handler, &format!("{path}/decisions/{which}")).await?,
        ));
    }
    let explanation: Option<Explanation> = get(handler, &format!("{path}/explanation")).await?;
    if explanation.is_none() && !status.decisions.is_empty() {
        return Ok(of_decision(
            status,
            get(handler, &format!("{path}/decisions/last")).await?,
        ));
    }
    Ok(Account {
        service: status.service.clone(),
        status,
        decision: None,
        explanation,
    })
}

/// The answer of one of the controller's calls, or its refusal.
async fn get<T: DeserializeOwned>(handler: &Handler, path: &str) -> Result<T, Box<Response<Bytes>>> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = path.parse().map_err(|_| Box::default())?;
    let response = handler.handle(request).await.unwrap_or_default();
    if !response.status().is_success() {
        return Err(Box::new(response));
    }
    serde_json::from_slice(response.body()).map_err(|_| Box::default())
}

fn plain(text: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
