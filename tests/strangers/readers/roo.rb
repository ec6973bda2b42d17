# Reads XLSX files with roo, row by row and as a whole.
#   ruby roo.rb READER[,READER…] FILE…
# Prints one line of JSON for each reader and file.
require 'json'
require 'roo'
OUT = $stdout.dup
$stdout.reopen($stderr)

def cell(value, type = nil)
  case value
  when nil, true, false, Integer then type == :time && value ? { duration: value } : value
  when Float then type == :time ? { duration: value } : (value.finite? ? value : value.to_s)
  when DateTime then { date: value.new_offset(0).strftime('%Y-%m-%dT%H:%M:%S.%6N') }
  when Date then { date: value.iso8601 }
  else value.to_s
  end
end

READERS = {
  'roo' => lambda do |book, name|
    sheet = book.sheet(name)
    last_row = sheet.last_row || 0
    last_column = sheet.last_column || 0
    (1..last_row).map { |r| (1..last_column).map { |c| cell(sheet.cell(r, c), sheet.celltype(r, c)) } }
  end,
  'roo-stream' => lambda do |book, name|
    rows = []
    book.sheet(name).each_row_streaming(pad_cells: true) do |line|
      rows << line.map { |c| c.nil? ? nil : cell(c.value, c.type == :time ? :time : nil) }
    end
    rows
  end
}.freeze

names, *files = ARGV
names.split(',').each do |reader|
  files.each do |file|
    answer = { reader: reader, version: Gem.loaded_specs['roo']&.version.to_s, file: file }
    begin
      book = Roo::Spreadsheet.open(file)
      answer[:sheets] = book.sheets.map { |name| { name: name, rows: READERS.fetch(reader).call(book, name) } }
      book.close
    rescue StandardError => e
      answer[:error] = "#{e.class}: #{e.message}"
    end
    OUT.puts(JSON.generate(answer))
    OUT.flush
  end
end
