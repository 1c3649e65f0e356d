import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.InvalidKeySpecException;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.time.Duration;
import java.util.Base64;
import java.util.Map;
import java.util.regex.Pattern;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * Has standard input signed with java.net.http, checks the signature, and prints it in base64. Java 17 or later.
 *
 * <pre>java Sign.java &lt;FILE</pre>
 */
public class Sign {
    /**
     * A refusal is an answer. Do not sign with a key of your own, and do not ask again at once: fail your own
     * request or stay read-only, and come back after {@code retryAfterSeconds}, if it is not 0.
     */
    static class Refused extends Exception {
        final int retryAfterSeconds;

        Refused(HttpResponse<String> answer) {
            super("refused: " + field(answer.body(), "reason") + " (HTTP " + answer.statusCode() + "): "
                + field(answer.body(), "detail"));
            retryAfterSeconds = answer.headers().firstValue("retry-after").map(Integer::parseInt).orElse(0);
        }
    }

    public static void main(String[] arguments) throws Exception {
        try {
            System.out.println(sign(client(), System.in.readAllBytes()));
        } catch (Refused refused) {
            System.err.println(refused.getMessage() + ", retry after " + refused.retryAfterSeconds + " s");
            System.exit(refused.retryAfterSeconds > 0 ? 75 : 1);
        }
    }

    static String sign(HttpClient client, byte[] message) throws Exception {
        String kid = System.getenv("SIGNCTL_SIGNER"); // else your default signer
        String body = "{\"message\": \"" + Base64.getEncoder().encodeToString(message) + "\""
            + (kid == null ? "}" : ", \"signer_kid\": \"" + kid + "\"}");
        HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("SIGNING_PROXY_URL") + "/v1/sign"))
            .header("content-type", "application/json")
            .timeout(Duration.ofSeconds(30))
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            throw new Refused(answer);
        }
        String signature = field(answer.body(), "signature");
        verify(message, field(answer.body(), "signer_kid"), Base64.getDecoder().decode(signature));
        return signature;
    }

    /** One for the whole program: it keeps connections, and follows no redirect. A renewed certificate needs a new one. */
    static HttpClient client() throws GeneralSecurityException, IOException {
        CertificateFactory x509 = CertificateFactory.getInstance("X.509");
        KeyStore trusted = empty(); // this authority alone is trusted
        int number = 0;
        for (Certificate authority : x509.generateCertificates(new ByteArrayInputStream(file("SIGNING_PROXY_CA")))) {
            trusted.setCertificateEntry("ca-" + number++, authority);
        }
        KeyStore mine = empty();
        Certificate[] chain = x509.generateCertificates(new ByteArrayInputStream(file("SIGNING_PROXY_CLIENT_CERT")))
            .toArray(Certificate[]::new);
        mine.setKeyEntry("me", privateKey(file("SIGNING_PROXY_CLIENT_KEY")), new char[0], chain);
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(mine, new char[0]);
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return HttpClient.newBuilder().sslContext(tls).connectTimeout(Duration.ofSeconds(10)).build();
    }

    static KeyStore empty() throws GeneralSecurityException, IOException {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        return store;
    }

    static byte[] file(String variable) throws IOException {
        return Files.readAllBytes(Path.of(System.getenv(variable)));
    }

    static byte[] pem(String text) {
        return Base64.getMimeDecoder().decode(text.replaceAll("-----[^-]*-----", ""));
    }

    /** PKCS#8, as `openssl pkcs8 -topk8 -nodes` writes it. */
    static PrivateKey privateKey(byte[] text) throws GeneralSecurityException {
        PKCS8EncodedKeySpec encoded = new PKCS8EncodedKeySpec(pem(new String(text)));
        for (String kind : new String[] {"EC", "RSA", "Ed25519"}) {
            try {
                return KeyFactory.getInstance(kind).generatePrivate(encoded);
            } catch (InvalidKeySpecException other) {
                continue;
            }
        }
        throw new InvalidKeySpecException("SIGNING_PROXY_CLIENT_KEY is no PKCS#8 PEM of an EC, RSA or Ed25519 key");
    }

    /** The registry's algorithms, as Java names the key and the signature. Add what your registry has. */
    static final Map<String, String[]> ALGORITHMS = Map.of(
        "ed25519", new String[] {"Ed25519", "Ed25519"},
        "ecdsa-p256-sha256", new String[] {"EC", "SHA256withECDSA"},
        "rsa-sha256", new String[] {"RSA", "SHA256withRSA"});

    /**
     * Looks the key up in this machine's own copy of the registry: what the proxy says of itself proves nothing. In an
     * emergency the key is another one, which the registry has too.
     */
    static void verify(byte[] message, String kid, byte[] signature) throws Exception {
        String registry = new String(file("SIGNCTL_SIGNERS"));
        String signer = Pattern.compile("\\{[^{}]*\\}").matcher(registry).results().map(entry -> entry.group())
            .filter(entry -> kid.equals(field(entry, "signer_kid")) && field(entry, "revokedAt") == null)
            .findFirst()
            .orElseThrow(() -> new SecurityException("NOT VERIFIED: " + kid + " is not registered, or revoked"));
        // The registry says which algorithm it is, never the answer.
        String[] algorithm = ALGORITHMS.get(field(signer, "algorithm"));
        if (algorithm == null) {
            throw new SecurityException("NOT VERIFIED: add " + field(signer, "algorithm") + " to ALGORITHMS");
        }
        X509EncodedKeySpec encoded = new X509EncodedKeySpec(pem(field(signer, "public_key_pem")));
        Signature check = Signature.getInstance(algorithm[1]);
        check.initVerify(KeyFactory.getInstance(algorithm[0]).generatePublic(encoded));
        check.update(message);
        if (!check.verify(signature)) {
            throw new SecurityException("NOT VERIFIED under the registered key of " + kid);
        }
    }

    /** A text field of a flat JSON object, or null. Java has no JSON of its own: your service has, so use that. */
    static String field(String json, String name) {
        var found = Pattern.compile("\"" + name + "\"\\s*:\\s*\"([^\"\\\\]*(?:\\\\.[^\"\\\\]*)*)\"").matcher(json);
        return found.find() ? found.group(1).replace("\\n", "\n").replace("\\\"", "\"") : null;
    }
}
