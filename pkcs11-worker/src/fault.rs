//! From a token's error code to what is known (I10): one table.

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use signing_core::evidence::Fault;
use signing_core::worker::{Failure, Login, printable};

/// Where it happened decides what it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In `C_Sign`: the token may have signed.
    Signing,
    /// Anywhere before: certainly nothing was signed.
    Before,
}

/// What a code tells, and what becomes of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    fault: Fault,
    /// Only a worker that is started anew can sign again.
    anew: bool,
}

/// Why a call to sign failed by that mechanism.
pub(crate) fn of_call(error: &Error, mechanism: MechanismType) -> Failure {
    let Verdict { fault, anew } = match error {
        Error::Pkcs11(code, Function::Sign) => verdict(*code, Stage::Signing),
        Error::Pkcs11(code, _) => verdict(*code, Stage::Before),
        // Nothing was asked of the token.
        _ => Verdict { fault: Fault::Rejected, anew: false },
    };
    let mut detail = words(error);
    if let Error::Pkcs11(RvError::MechanismInvalid, _) = error {
        detail.push_str(&format!(": the token or its library lacks {mechanism}"));
    }
    Failure { fault, detail, last: anew }
}

/// What a failure of the start tells.
pub(crate) fn of_start(error: &Error) -> Fault {
    match error {
        Error::Pkcs11(code, _) => verdict(*code, Stage::Before).fault,
        _ => Fault::KeyUnavailable,
    }
}

/// What a failed `C_Login` tells of the PIN. The specification has codes for what is wrong with a PIN,
/// and its other ones say something else: a device without memory says `CKR_GENERAL_ERROR`. Only a
/// code that is none of the specification's may mean anything, a counted attempt too.
pub(crate) fn of_login(error: &Error) -> Login {
    use RvError as E;
    let Error::Pkcs11(code, _) = error else { return Login::Other };
    match code {
        E::PinIncorrect
        | E::PinInvalid
        | E::PinLenRange
        | E::PinExpired
        | E::PinLocked
        | E::PinTooWeak
        | E::UserPinNotInitialized => Login::Pin,

        E::VendorDefined(_) | E::UnknownErrorCode(_) => Login::Doubtful,

        _ => Login::Other,
    }
}

/// The code and the function, without the specification's essay about it.
pub(crate) fn words(error: &Error) -> String {
    // `Function::Sign`, which everybody else calls C_Sign.
    let called = |function: &Function| format!("C_{function:?}");
    match error {
        Error::Pkcs11(RvError::VendorDefined(code), function) => {
            format!("{}: CKR_VENDOR_DEFINED + {:#x}", called(function), code & 0x7fff_ffff)
        }
        Error::Pkcs11(RvError::UnknownErrorCode(code), function) => {
            format!("{}: the code {code:#x}", called(function))
        }
        Error::Pkcs11(code, function) => format!("{}: {}", called(function), name(*code)),
        other => printable(&other.to_string()),
    }
}

/// `CKR_SESSION_HANDLE_INVALID`, from the variant's own name.
fn name(code: RvError) -> String {
    let mut name = "CKR".to_owned();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// The table. Meanings: PKCS#11 3.1, 5.1 (Function return values).
fn verdict(code: RvError, stage: Stage) -> Verdict {
    use RvError as E;
    let doubtful = match stage {
        Stage::Signing => Fault::Indeterminate,
        Stage::Before => Fault::Unavailable,
    };
    let (fault, anew) = match code {
        // It looked at the call and said no.
        E::DataInvalid
        | E::DataLenRange
        | E::ArgumentsBad
        | E::MechanismInvalid
        | E::MechanismParamInvalid
        | E::KeySizeRange
        | E::CurveNotSupported
        | E::DomainParamsInvalid
        | E::FunctionNotSupported
        | E::FunctionRejected => (Fault::Rejected, false),

        // Someone has to act: another key, another PIN, another permission.
        E::KeyFunctionNotPermitted
        | E::KeyTypeInconsistent
        | E::ActionProhibited
        | E::PinIncorrect
        | E::PinInvalid
        | E::PinLenRange
        | E::PinExpired
        | E::PinLocked
        | E::PinTooWeak
        | E::UserPinNotInitialized
        | E::UserTypeInvalid
        | E::UserAnotherAlreadyLoggedIn
        | E::UserTooManyTypes
        | E::CantLock
        | E::NeedToCreateThreads => (Fault::KeyUnavailable, false),

        // It has no room for one more.
        E::SessionCount => (Fault::Throttled, false),

        // Gone at the time of the call, so that it certainly did not sign.
        E::SessionHandleInvalid
        | E::TokenNotPresent
        | E::TokenNotRecognized
        | E::SlotIdInvalid
        | E::UserNotLoggedIn
        | E::KeyHandleInvalid
        | E::ObjectHandleInvalid
        | E::KeyChanged
        | E::CryptokiNotInitialized
        | E::OperationActive
        | E::OperationNotInitialized
        | E::FipsSelfTestFailed
        | E::LibraryLoadFailed => (Fault::Unavailable, true),

        // "Not totally hopeless": the next call may succeed.
        E::FunctionFailed | E::FunctionCanceled | E::Cancel | E::DeviceMemory => (doubtful, false),

        // Gone, or broken, in the middle of the call.
        E::SessionClosed | E::DeviceRemoved | E::DeviceError | E::GeneralError | E::HostMemory => {
            (doubtful, true)
        }

        // A vendor's own, mostly of its network; unknown ones; and those that no function
        // called here may return. Who breaks the specification is started anew.
        _ => (doubtful, true),
    };
    Verdict { fault, anew }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i10_every_code_tells_what_is_known() {
        use Fault::{Indeterminate, KeyUnavailable, Rejected, Throttled, Unavailable};
        use RvError as E;
        // Code, in C_SignInit, in C_Sign, started anew.
        for (code, before, signing, anew) in [
            (E::DataLenRange, Rejected, Rejected, false),
            (E::MechanismInvalid, Rejected, Rejected, false),
            (E::FunctionNotSupported, Rejected, Rejected, false),
            (E::KeyFunctionNotPermitted, KeyUnavailable, KeyUnavailable, false),
            (E::PinIncorrect, KeyUnavailable, KeyUnavailable, false),
            (E::PinLocked, KeyUnavailable, KeyUnavailable, false),
            (E::SessionCount, Throttled, Throttled, false),
            (E::SessionHandleInvalid, Unavailable, Unavailable, true),
            (E::TokenNotPresent, Unavailable, Unavailable, true),
            (E::UserNotLoggedIn, Unavailable, Unavailable, true),
            (E::KeyHandleInvalid, Unavailable, Unavailable, true),
            (E::CryptokiNotInitialized, Unavailable, Unavailable, true),
            (E::FunctionFailed, Unavailable, Indeterminate, false),
            (E::DeviceMemory, Unavailable, Indeterminate, false),
            (E::SessionClosed, Unavailable, Indeterminate, true),
            (E::DeviceRemoved, Unavailable, Indeterminate, true),
            (E::DeviceError, Unavailable, Indeterminate, true),
            (E::GeneralError, Unavailable, Indeterminate, true),
            (E::VendorDefined(0x8000_0001), Unavailable, Indeterminate, true),
            (E::UnknownErrorCode(7), Unavailable, Indeterminate, true),
            (E::SignatureInvalid, Unavailable, Indeterminate, true),
        ] {
            let of = |function| {
                let Failure { fault, last, .. } =
                    of_call(&Error::Pkcs11(code, function), MechanismType::ECDSA);
                (fault, last)
            };
            assert_eq!(of(Function::SignInit), (before, anew), "{code:?} in C_SignInit");
            assert_eq!(of(Function::Sign), (signing, anew), "{code:?} in C_Sign");
            assert_eq!(of_start(&Error::Pkcs11(code, Function::Login)), before, "{code:?}");
        }
    }

    #[test]
    fn only_a_code_about_the_pin_or_of_a_vendors_own_may_be_a_counted_attempt() {
        use RvError as E;
        for (code, login) in [
            (E::PinIncorrect, Login::Pin),
            (E::PinLocked, Login::Pin),
            (E::PinExpired, Login::Pin),
            (E::DeviceError, Login::Other),
            (E::SessionHandleInvalid, Login::Other),
            (E::TokenNotPresent, Login::Other),
            (E::FunctionFailed, Login::Other),
            (E::GeneralError, Login::Other),
            (E::DeviceMemory, Login::Other),
            (E::HostMemory, Login::Other),
            (E::VendorDefined(0x8000_0001), Login::Doubtful),
            (E::UnknownErrorCode(7), Login::Doubtful),
        ] {
            assert_eq!(of_login(&Error::Pkcs11(code, Function::Login)), login, "{code:?}");
        }
    }

    #[test]
    fn codes_have_the_names_that_the_specification_gives_them() {
        let error = Error::Pkcs11(RvError::SessionHandleInvalid, Function::Sign);
        assert_eq!(words(&error), "C_Sign: CKR_SESSION_HANDLE_INVALID");
        let error = Error::Pkcs11(RvError::VendorDefined(0x8000_0002), Function::Sign);
        assert_eq!(words(&error), "C_Sign: CKR_VENDOR_DEFINED + 0x2");
    }
}
