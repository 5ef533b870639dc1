//! The `#[job]` attribute of `optwasm-guest`, which documents it.
//!
//! The attribute keeps the function as it is and adds `main`, which reads the input, calls the
//! function and delivers what it returns; the exports `optwasm_run`, which is the same for a host
//! that calls it more than once, and `optwasm_init`, for a job with an `init`; and the custom section
//! `optwasm:abi`, which says what the function's types are. It knows types only as their author wrote them; how a value is decoded or
//! encoded is chosen later, by traits, in `optwasm_guest::__private`.

mod section;

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, quote};
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{
    Error, FnArg, GenericArgument, Ident, ItemFn, Path, PathArguments, ReturnType, Token, Type,
};

/// Makes a function the job of a binary crate. See the documentation of `optwasm_guest`.
#[proc_macro_attribute]
pub fn job(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    // Where the function is kept beside the error, the compiler does not complain that it is
    // missing as well.
    let written = TokenStream::from(item.clone());
    expand(arguments.into(), item.into())
        .unwrap_or_else(|error| {
            let error = error.to_compile_error();
            quote!(#written #error)
        })
        .into()
}

fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    let init = init_of(arguments)?;
    let function: ItemFn = syn::parse2(item).map_err(|error| {
        Error::new(
            error.span(),
            "#[job] belongs on a function: fn compute(input: In) -> Result<Out, E>",
        )
    })?;
    let signature = signature_of(&function, init.is_some())?;
    let name = &function.sig.ident;
    let written_input = signature
        .input
        .as_ref()
        .map_or_else(|| "()".to_owned(), |input| as_written(&input.written));
    let section = section::bytes(&written_input, &output_of(&function.sig.output));
    let length = section.len();
    let section = Literal::byte_string(&section);

    let state = signature.state.iter().map(|_| quote!(__optwasm_state(),));
    let call = match &signature.input {
        None => quote!(#name(#(#state)*)),
        Some(Input {
            owned,
            by_reference,
            ..
        }) => {
            let value = if *by_reference {
                quote!(&input)
            } else {
                quote!(input)
            };
            quote!({
                let bytes = ::optwasm_guest::__private::input();
                let input: #owned = match ::optwasm_guest::__private::Decode::<#owned>::new().decode(bytes) {
                    ::core::result::Result::Ok(input) => input,
                    ::core::result::Result::Err(error) => ::optwasm_guest::__private::bad_input(error),
                };
                #name(#(#state)* #value)
            })
        }
    };
    // The body refers to the function's types: errors about them should point at the signature.
    let span = function.sig.span();
    let traits = quote! {
        #[allow(unused_imports)]
        use ::optwasm_guest::__private::{
            AnyError as _, AnyInput as _, AnyOutput as _, AnyReturn as _, DisplayError as _,
        };
    };
    let job = quote::quote_spanned! {span=>
        fn __optwasm_job() {
            #traits
            match ::optwasm_guest::__private::Returned(#call).into_result() {
                ::core::result::Result::Ok(output) => {
                    match ::optwasm_guest::__private::Encode(output).encode() {
                        ::core::result::Result::Ok(bytes) => ::optwasm_guest::__private::finish(bytes),
                        ::core::result::Result::Err(error) => ::optwasm_guest::__private::bad_output(error),
                    }
                }
                ::core::result::Result::Err(error) => {
                    ::optwasm_guest::__private::fail((::optwasm_guest::__private::Failure(error)).chain())
                }
            }
        }
    };
    let (state, export_init) = match (&init, &signature.state) {
        (Some(init), Some(state)) => (
            quote! {
                fn __optwasm_state() -> &'static #state {
                    #traits
                    static STATE: ::std::sync::OnceLock<#state> = ::std::sync::OnceLock::new();
                    STATE.get_or_init(|| {
                        match ::optwasm_guest::__private::Returned(#init()).into_result() {
                            ::core::result::Result::Ok(state) => state,
                            ::core::result::Result::Err(error) => {
                                ::optwasm_guest::__private::fail((::optwasm_guest::__private::Failure(error)).chain())
                            }
                        }
                    })
                }
            },
            quote! {
                #[unsafe(export_name = "optwasm_init")]
                extern "C" fn init() {
                    ::optwasm_guest::__private::enter();
                    __optwasm_state();
                    ::optwasm_guest::__private::leave();
                }
            },
        ),
        _ => (TokenStream::new(), TokenStream::new()),
    };
    Ok(quote! {
        #function

        #state

        #job

        fn main() {
            ::optwasm_guest::__private::start();
            __optwasm_job();
        }

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[used]
            #[unsafe(link_section = "optwasm:abi")]
            static ABI: [u8; #length] = *#section;

            #export_init

            #[unsafe(export_name = "optwasm_run")]
            extern "C" fn run() {
                ::optwasm_guest::__private::enter();
                __optwasm_job();
                ::optwasm_guest::__private::leave();
            }
        };
    })
}

/// What makes the state that jobs share: the path in `init = path`.
fn init_of(arguments: TokenStream) -> Result<Option<Path>, Error> {
    if arguments.is_empty() {
        return Ok(None);
    }
    let parser = |input: ParseStream<'_>| {
        let name: Ident = input.parse()?;
        if name != "init" {
            return Err(Error::new(name.span(), "#[job] knows one argument: `init`"));
        }
        input.parse::<Token![=]>()?;
        let path = input.parse()?;
        input.parse::<Option<Token![,]>>()?;
        Ok(path)
    };
    parser.parse2(arguments).map(Some)
}

/// What a job takes.
struct Signature {
    /// The type behind the reference that comes first, where there is an `init`.
    state: Option<Type>,
    input: Option<Input>,
}

/// The input of a job.
struct Input {
    /// As the author wrote it.
    written: Type,
    /// What is decoded: `Vec<u8>` for `&[u8]`, `String` for `&str`, `T` for `&T`, else the type.
    owned: TokenStream,
    by_reference: bool,
}

fn signature_of(function: &ItemFn, has_state: bool) -> Result<Signature, Error> {
    let signature = &function.sig;
    if signature.ident == "main" {
        return Err(Error::new_spanned(
            &signature.ident,
            "#[job] writes `main` itself: give this function another name, such as `compute`",
        ));
    }
    if let Some(keyword) = &signature.asyncness {
        return Err(Error::new_spanned(
            keyword,
            "a job cannot be async: it runs alone and to its end",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &signature.generics,
            "a job cannot be generic: its input and output need fixed types",
        ));
    }
    let mut arguments = signature.inputs.iter();
    let state = match has_state.then(|| arguments.next()) {
        None => None,
        Some(Some(FnArg::Typed(first))) => match &*first.ty {
            Type::Reference(reference) if reference.mutability.is_none() => {
                Some((*reference.elem).clone())
            }
            other => {
                return Err(Error::new_spanned(
                    other,
                    "what `init` makes is shared by jobs: take it by shared reference",
                ));
            }
        },
        Some(_) => {
            return Err(Error::new_spanned(
                &signature.ident,
                "a job with `init` takes what that makes: fn compute(state: &State, input: In)",
            ));
        }
    };
    let input = match arguments.next() {
        None => None,
        Some(FnArg::Typed(first)) => Some(input_of(&first.ty)?),
        Some(receiver) => {
            return Err(Error::new_spanned(
                receiver,
                "a job is a free function, without self",
            ));
        }
    };
    if let Some(more) = arguments.next() {
        return Err(Error::new_spanned(
            more,
            "a job has at most one input: put several values into a tuple or a struct",
        ));
    }
    Ok(Signature { state, input })
}

fn input_of(written: &Type) -> Result<Input, Error> {
    let written = written.clone();
    let (owned, by_reference) = match &written {
        Type::Reference(reference) => {
            if let Some(keyword) = &reference.mutability {
                return Err(Error::new_spanned(
                    keyword,
                    "a job takes its input by value or by shared reference",
                ));
            }
            let owned = match &*reference.elem {
                Type::Slice(slice) => {
                    let element = &slice.elem;
                    quote!(::std::vec::Vec<#element>)
                }
                Type::Path(path) if path.path.is_ident("str") => quote!(::std::string::String),
                other => other.to_token_stream(),
            };
            (owned, true)
        }
        Type::ImplTrait(_) => {
            return Err(Error::new_spanned(
                &written,
                "the input of a job needs a named type",
            ));
        }
        other => (other.to_token_stream(), false),
    };
    Ok(Input {
        written,
        owned,
        by_reference,
    })
}

/// The type of the output as its author wrote it; of a `Result`, that of success.
fn output_of(output: &ReturnType) -> String {
    let ReturnType::Type(_, written) = output else {
        return "()".to_owned();
    };
    if let Type::Path(path) = &**written
        && let Some(last) = path.path.segments.last()
        && last.ident == "Result"
        && let PathArguments::AngleBracketed(arguments) = &last.arguments
        && let Some(GenericArgument::Type(success)) = arguments.args.first()
    {
        return as_written(success);
    }
    as_written(written)
}

/// A type as people write it: tokens print with spaces around every punctuation mark.
fn as_written(written: &Type) -> String {
    let mut text = written.to_token_stream().to_string();
    for (spaced, tight) in [
        (" < ", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" :: ", "::"),
        (":: ", "::"),
        (" ,", ","),
        ("& ", "&"),
        (" ;", ";"),
    ] {
        text = text.replace(spaced, tight);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(item: TokenStream) -> String {
        expand(TokenStream::new(), item).unwrap_err().to_string()
    }

    #[test]
    fn wrong_signatures_are_explained() {
        assert!(
            error_of(quote!(
                fn main() {}
            ))
            .contains("another name")
        );
        assert!(
            error_of(quote!(
                async fn f() {}
            ))
            .contains("async")
        );
        assert!(
            error_of(quote!(
                fn f<T>(x: T) {}
            ))
            .contains("generic")
        );
        assert!(
            error_of(quote!(
                fn f(a: u8, b: u8) {}
            ))
            .contains("at most one input")
        );
        assert!(
            error_of(quote!(
                fn f(&self) {}
            ))
            .contains("free function")
        );
        assert!(
            error_of(quote!(
                fn f(x: &mut Vec<u8>) {}
            ))
            .contains("shared reference")
        );
        assert!(
            error_of(quote!(
                fn f(x: impl Copy) {}
            ))
            .contains("named type")
        );
        assert!(
            error_of(quote!(
                struct S;
            ))
            .contains("belongs on a function")
        );
        let arguments = expand(
            quote!(fast),
            quote!(
                fn f() {}
            ),
        )
        .unwrap_err();
        assert!(arguments.to_string().contains("`init`"));
    }

    #[test]
    fn a_job_with_init_takes_what_that_makes() {
        let error = |item: TokenStream| expand(quote!(init = load), item).unwrap_err().to_string();
        assert!(
            error(quote!(
                fn f() {}
            ))
            .contains("fn compute(state: &State")
        );
        assert!(
            error(quote!(
                fn f(state: State) {}
            ))
            .contains("by shared reference")
        );
        assert!(
            error(quote!(
                fn f(state: &mut State) {}
            ))
            .contains("by shared reference")
        );
        assert!(
            error(quote!(
                fn f(state: &State, a: u8, b: u8) {}
            ))
            .contains("one input")
        );
        let one = quote!(
            fn f(state: &[f64], input: u8) -> f64 {}
        );
        let expanded = expand(quote!(init = data::load), one).unwrap().to_string();
        assert!(expanded.contains("optwasm_init") && expanded.contains("data :: load"));
    }

    #[test]
    fn types_are_recorded_as_written() {
        let function: ItemFn = syn::parse_quote! {
            fn f(x: &[f64]) -> anyhow::Result<std::collections::BTreeMap<String, Vec<f64>>> {}
        };
        let input = signature_of(&function, false).unwrap().input.unwrap();
        assert_eq!(as_written(&input.written), "&[f64]");
        assert_eq!(
            output_of(&function.sig.output),
            "std::collections::BTreeMap<String, Vec<f64>>"
        );
        let plain: ItemFn = syn::parse_quote!(
            fn f() {}
        );
        assert_eq!(output_of(&plain.sig.output), "()");
    }
}
