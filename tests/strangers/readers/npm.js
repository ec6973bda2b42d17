// Reads XLSX files with the programs from npm, each used as its users use it.
//   node npm.js READER[,READER…] FILE…
// Prints one line of JSON for each reader and file. What a reader itself prints goes to stderr.
process.env.TZ = 'UTC'
const fs = require('fs')
const path = require('path')
const root = process.env.BGFILES_STRANGERS || path.join(__dirname, '../../../target/strangers')
const modules = path.join(path.resolve(root), 'readers/node_modules')
const need = require('module').createRequire(path.join(modules, 'x.js'))
console.log = console.info = console.warn = console.error

const version = (name) => JSON.parse(fs.readFileSync(path.join(modules, name, 'package.json'))).version

// A value of JavaScript as a cell of the answer.
function cell(value) {
  if (value === undefined || value === null) return null
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value)
  if (typeof value === 'boolean' || typeof value === 'string') return value
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : { date: value.toISOString().slice(0, -1) }
  if (Array.isArray(value.richText)) return value.richText.map((part) => part.text).join('')
  return { other: String(value.error || JSON.stringify(value)) }
}
// A sparse array as a whole row.
const row = (values) => Array.from(values || [], cell)
// "AB" as 27.
const column = (letters) => [...letters].reduce((sum, letter) => sum * 26 + letter.charCodeAt(0) - 64, 0) - 1

const readers = {
  xlsx: ['xlsx', {}, (file) => {
    const { readFile, utils } = need('xlsx')
    const book = readFile(file, { cellDates: true })
    return book.SheetNames.map((name) => {
      const sheet = book.Sheets[name]
      if (!sheet['!ref']) return { name, rows: [] }
      const range = { s: { r: 0, c: 0 }, e: utils.decode_range(sheet['!ref']).e }
      return { name, rows: utils.sheet_to_json(sheet, { header: 1, raw: true, defval: null, blankrows: true, range }).map(row) }
    })
  }],
  exceljs: ['exceljs', {}, async (file) => {
    const { Workbook } = need('exceljs')
    const book = new Workbook()
    await book.xlsx.readFile(file)
    return book.worksheets.map((sheet) => {
      const rows = []
      sheet.eachRow({ includeEmpty: true }, (line, number) => { rows[number - 1] = row(line.values.slice(1)) })
      return { name: sheet.name, rows }
    })
  }],
  'exceljs-stream': ['exceljs', {}, async (file) => {
    const { stream } = need('exceljs')
    const sheets = []
    const book = new stream.xlsx.WorkbookReader(file, { worksheets: 'emit', sharedStrings: 'cache', styles: 'cache' })
    for await (const sheet of book) {
      const rows = []
      for await (const line of sheet) rows[line.number - 1] = row(line.values.slice(1))
      sheets.push({ name: sheet.name, rows: Array.from(rows, (line) => line || []) })
    }
    return sheets
  }],
  'read-excel-file': ['read-excel-file', {}, async (file) => {
    const { default: read } = need('read-excel-file/node')
    return (await read(file)).map(({ sheet, data }) => ({ name: sheet, rows: data.map(row) }))
  }],
  // Gives every cell as the text that Excel would show.
  'xlsx-stream-reader': ['xlsx-stream-reader', { text: true }, (file) => new Promise((resolve, reject) => {
    const Reader = need('xlsx-stream-reader')
    const sheets = []
    const book = new Reader()
    book.on('error', reject)
    book.on('worksheet', (sheet) => {
      const rows = []
      sheet.on('row', (line) => { rows[line.attributes.r - 1] = Array.from(line.values.slice(1), (value) => value === '' ? null : cell(value)) })
      sheet.on('end', () => sheets.push({ name: sheet.name, rows: Array.from(rows, (line) => line || []) }))
      sheet.process()
    })
    book.on('end', () => resolve(sheets))
    fs.createReadStream(file).on('error', reject).pipe(book)
  })],
  // Gives dates as serial numbers: it has no other way for a whole range.
  'xlsx-populate': ['xlsx-populate', {}, async (file) => {
    const book = await need('xlsx-populate').fromFileAsync(file)
    return book.sheets().map((sheet) => {
      const used = sheet.usedRange()
      const name = sheet.name()
      if (!used) return { name, rows: [] }
      const end = used.endCell()
      return { name, rows: sheet.range(1, 1, end.rowNumber(), end.columnNumber()).value().map(row) }
    })
  }],
  'convert-excel-to-json': ['convert-excel-to-json', {}, (file) => {
    const book = need('convert-excel-to-json')({ sourceFile: file, includeEmptyLines: true })
    return Object.entries(book).map(([name, lines]) => ({
      name,
      rows: Array.from(lines, (line) => {
        const values = []
        for (const [key, value] of Object.entries(line || {})) values[column(key)] = value
        return row(values)
      }),
    }))
  }],
}

async function main() {
  const [names, ...files] = process.argv.slice(2)
  for (const name of names.split(',')) {
    for (const file of files) {
      const [module, extra, read] = readers[name]
      const answer = { reader: name, version: version(module), file, ...extra }
      try {
        // A reader that throws from an event handler, outside its own promise, ends in an error too.
        answer.sheets = await new Promise((resolve, reject) => {
          process.removeAllListeners('uncaughtException')
          process.once('uncaughtException', reject)
          Promise.resolve().then(() => read(file)).then(resolve, reject)
        })
      } catch (error) {
        answer.error = String((error && error.message) || error)
      }
      fs.writeSync(1, JSON.stringify(answer) + '\n')
    }
  }
}
main().then(() => process.exit(0))
