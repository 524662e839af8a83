//! The body of an answer, without its content coding.

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use super::{
    answer::{Answer, AnswerBody},
    error::NetError,
    inflate::{Coding, Inflate},
};

/// The characters that are shown of a coding that is not known.
const SHOWN_CHARS: usize = 64;

/// A body as it arrives.
#[derive(Debug)]
pub struct Content {
    body: AnswerBody,
    /// Boxed: nobody is asked for a coding.
    inflate: Option<Box<Inflate>>,
}

impl Content {
    /// The answer with its content; no coding but `identity` was asked for, and gzip and deflate
    /// are understood all the same.
    ///
    /// # Errors
    /// [`NetError::Coding`], which names another one.
    pub fn of(response: Answer) -> Result<Response<Self>, NetError> {
        let inflate = match coding(response.headers()) {
            Ok(coding) => coding.map(|coding| Box::new(Inflate::new(coding))),
            Err(other) => return Err(NetError::Coding(other)),
        };
        Ok(response.map(|body| Self { body, inflate }))
    }

    /// The bytes that are still to come, where the server said how many there are.
    pub fn remaining(&self) -> Option<usize> {
        let exact = self.body.size_hint().exact().filter(|_| self.inflate.is_none())?;
        usize::try_from(exact).ok()
    }

    /// The next piece; none at the end. Safe to drop: what was received stays.
    ///
    /// # Errors
    /// In words, where the body broke or its coding is damaged.
    pub async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            if let Some(inflate) = &mut self.inflate {
                match inflate.next() {
                    Ok(Some(piece)) => return Some(Ok(piece)),
                    Ok(None) => (),
                    Err(error) => return Some(Err(format!("its content coding: {error}"))),
                }
            }
            let data = match self.body.frame().await {
                // Trailers say nothing here.
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Some(Err(error.to_string())),
                None => {
                    let finished = self.inflate.as_ref().map_or(Ok(()), |inflate| inflate.finish());
                    return finished.err().map(|error| Err(format!("its content coding: {error}")));
                }
            };
            match &mut self.inflate {
                Some(inflate) => inflate.push(&data),
                None if data.is_empty() => (),
                None => return Some(Ok(data)),
            }
        }
    }
}

/// The only coding of an answer; none where it has none.
///
/// # Errors
/// What it is called, where it is not known.
fn coding(headers: &HeaderMap) -> Result<Option<Coding>, String> {
    let mut found = None;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        for name in value.to_str().unwrap_or("?").split(',').map(str::trim) {
            let coding = match &*name.to_ascii_lowercase() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                _ => return Err(name.chars().take(SHOWN_CHARS).collect()),
            };
            if found.replace(coding).is_some() {
                return Err("several at once".to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coding_is_known_by_its_name() {
        let found = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
            }
            coding(&headers)
        };
        for plain in [&[][..], &[""], &["identity"], &["Identity, identity"]] {
            assert_eq!(found(plain), Ok(None), "{plain:?}");
        }
        for gzip in [&["gzip"][..], &["x-gzip"], &["GZip"], &["identity, gzip"], &["", "gzip"]] {
            assert_eq!(found(gzip), Ok(Some(Coding::Gzip)), "{gzip:?}");
        }
        assert_eq!(found(&["deflate"]), Ok(Some(Coding::Deflate)));
        for (other, named) in [("br", "br"), ("zstd", "zstd"), ("gzip, br", "br")] {
            assert_eq!(found(&[other]), Err(named.to_owned()));
        }
        assert!(found(&["gzip, gzip"]).is_err() && found(&["gzip", "deflate"]).is_err());
    }
}
