# Reads XLSX files with Spreadsheet::ParseXLSX. Dates stay serial numbers.
#   perl parsexlsx.pl parsexlsx FILE…
# Prints one line of JSON for each file.
use strict;
use warnings;
use JSON::PP;
use Spreadsheet::ParseXLSX;

my $json = JSON::PP->new->utf8->allow_nonref;
my (undef, @files) = @ARGV;
$| = 1;
# The number's own digits: Perl would print 15 of them.
sub cell {
    my ($cell) = @_;
    return 'null' unless defined $cell && defined $cell->unformatted;
    my $value = $cell->unformatted;
    my $type = $cell->type // '';
    return $value if $type ne 'Text' && $value =~ /\A-?\d+(\.\d+)?([eE][-+]?\d+)?\z/;
    return $json->encode("$value");
}
for my $file (@files) {
    my @head = map { $json->encode($_) } 'parsexlsx', "$Spreadsheet::ParseXLSX::VERSION", $file;
    print qq({"reader":$head[0],"version":$head[1],"file":$head[2],);
    my $sheets = eval {
        local $SIG{__WARN__} = sub { print STDERR @_ };
        my $book = Spreadsheet::ParseXLSX->new->parse($file) or die "no workbook\n";
        join ',', map {
            my $sheet = $_;
            my (undef, $last_row) = $sheet->row_range;
            my (undef, $last_column) = $sheet->col_range;
            my @rows = map {
                my $r = $_;
                '[' . join(',', map { cell($sheet->get_cell($r, $_)) } 0 .. $last_column) . ']'
            } 0 .. $last_row;
            '{"name":' . $json->encode($sheet->get_name) . ',"rows":[' . join(',', @rows) . ']}'
        } $book->worksheets;
    };
    print defined $sheets ? qq("sheets":[$sheets]}\n) : '"error":' . $json->encode("$@" =~ s/\s+\z//r) . "}\n";
}
