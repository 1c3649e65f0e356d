//! boto3, which comes in by a local door with a key pair: nothing in the example knows of the proxy.

use system_tests::{Kind, World};

use super::{MESSAGE, Said, is_refused_once, registry, start, with};

const ID: &str = "AKIALOCALCALLER00001";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

#[tokio::test]
async fn python_signs_with_boto3_by_variables_only() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let file = world.scratch.write("sdk.secret", format!("{SECRET}\n"));
    let proof =
        format!("access_key_id = \"{ID}\"\nsecret_access_key_file = \"{}\"", file.display());
    let builder = world.proxy().signer("ec", &key).caller("local:sdk", &["ec"]);
    let proxy = builder.local("127.0.0.1:0", &[("sdk", &proof)]).start().await;
    let input = world.scratch.write("message", MESSAGE);
    let variables = [
        ("AWS_ENDPOINT_URL_KMS", format!("http://{}", proxy.local[0])),
        ("AWS_ACCESS_KEY_ID", ID.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ("AWS_REGION", "eu-central-1".to_owned()),
        ("AWS_DEFAULT_REGION", "eu-central-1".to_owned()),
        ("KMS_KEY_ID", "ec".to_owned()),
        ("KMS_ALGORITHM", "ECDSA_SHA_256".to_owned()),
        ("SIGNCTL_SIGNERS", registry(&world, "own.json", &[("ec", &key)])),
    ];
    let run = |variables: &[_]| Said::of(start::python(variables, "sign_boto3.py"), &input);
    run(&variables).signed_by(&key);
    is_refused_once(&proxy, "local", || run(&variables)).await;
    run(&variables).signed_by(&key);
    let other = registry(&world, "other.json", &[("ec", &world.kms.key(Kind::P256))]);
    run(&with(&variables, "SIGNCTL_SIGNERS", other)).failed(None, &["NOT VERIFIED"]);
    let wrong = run(&with(&variables, "AWS_SECRET_ACCESS_KEY", "another".to_owned()));
    wrong.failed(Some(1), &["InvalidSignatureException"]);
}
