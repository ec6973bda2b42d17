// Reads ZIP files from front to back, as from a pipe, every entry to its end.
//   java -cp … Zips READER[,READER…] FILE…
// Prints one line of JSON for each reader and file; gives no cells.
import java.io.BufferedInputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.ZipFile;
import java.util.zip.ZipInputStream;
import org.apache.commons.compress.archivers.zip.ZipArchiveInputStream;

public class Zips {
    static int java(InputStream in) throws Exception {
        int count = 0;
        try (ZipInputStream zip = new ZipInputStream(in)) {
            for (; zip.getNextEntry() != null; count++) zip.transferTo(OutputStream.nullOutputStream());
        }
        return count;
    }

    static int commons(InputStream in) throws Exception {
        int count = 0;
        try (ZipArchiveInputStream zip = new ZipArchiveInputStream(in)) {
            for (; zip.getNextZipEntry() != null; count++) zip.transferTo(OutputStream.nullOutputStream());
        }
        return count;
    }

    static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < ' ') out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }

    public static void main(String[] args) throws Exception {
        for (String reader : args[0].split(",")) {
            for (int i = 1; i < args.length; i++) {
                boolean own = reader.equals("java");
                String version = own ? System.getProperty("java.version")
                    : String.valueOf(ZipArchiveInputStream.class.getPackage().getImplementationVersion());
                String error = "";
                try (InputStream in = new BufferedInputStream(Files.newInputStream(Path.of(args[i])));
                     ZipFile whole = new ZipFile(args[i])) {
                    int count = own ? java(in) : commons(in);
                    if (count != whole.size()) error = count + " of " + whole.size() + " members";
                } catch (Exception e) {
                    error = e.toString();
                }
                System.out.println("{\"reader\":" + quoted(reader) + ",\"version\":" + quoted(version) + ",\"file\":" + quoted(args[i])
                    + (error.isEmpty() ? "" : ",\"error\":" + quoted(error)) + "}");
            }
        }
    }
}
