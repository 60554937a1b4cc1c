-- Words of one meaning, by which features of one meaning are found.
--
-- The lists are this package's own, written from general knowledge. A word stands in its lower-case
-- form, each inflection by itself. Left out is what means something else more often, in stories or in
-- documentation of programs: 'may' is a month less often than a verb; 'oct', 'dec', 'mar' and 'sep'
-- are functions and options; 'one', 'second', 'present', 'fall', 'none', 'store', 'call', 'turkey' and
-- 'patient' likewise.

-- one row per (category, word)
create table categories (
    category varchar,
    word varchar,           -- lower case; several words with single spaces between them are a phrase
    source varchar          -- 'feature-atlas', or the name of the file it was read from
);

-- one row per text that names no concept: features that fire on one can be left out of a pairing
create table non_concepts (
    text varchar
);

-- The texts of Lan et al. (arXiv 2410.06981), whose code drops a pair if one of the five strongest
-- tokens of either feature is among them: as decoded there, so newline and backslash-n are two.
insert into non_concepts
values
    ('.'),
    (chr(10)),
    ('\n'),
    (''),
    (' '),
    ('-'),
    (','),
    ('!'),
    ('?'),
    ('<|endoftext|>'),
    ('<bos>'),
    ('|bos|'),
    ('<pad>');

insert into categories
select
    category,
    unnest(string_split_regex(trim(words, chr(10) || ' '), '\s+')) as word,
    'feature-atlas' as source
from (
    values
    ('emotions', '
        happy happier happiest happily happiness unhappy sad sadder saddest sadly sadness angry
        angrier angrily anger afraid scared scary frightened fear fears feared joy joyful joyfully
        glad gladly excited excitement worried worry worries worrying nervous nervously proud
        proudly pride ashamed shame lonely loneliness jealous jealousy love loved loves loving hate
        hated hates surprised grateful gratitude delighted delight hopeful upset cheerful cheerfully
        miserable calm calmly grief sorrow shy embarrassed disappointed furious anxious anxiety
        terrified bored boredom disgust guilt
    '),
    ('time', '
        time times moment moments seconds minute minutes hour hours day days week weeks month months
        year years decade decades century centuries morning mornings afternoon evening evenings
        night nights midnight noon dawn dusk today tomorrow yesterday tonight soon later earlier
        early late always often sometimes ago forever past future meanwhile recently lately daily
        hourly weekly clock clocks o''clock duration instantly immediately eventually suddenly
        bedtime
    '),
    ('calendar', '
        monday mondays tuesday tuesdays wednesday wednesdays thursday thursdays friday fridays
        saturday saturdays sunday sundays weekend weekends weekday weekdays spring summer summers
        autumn winter winters season seasons calendar calendars date dates anniversary birthday
        birthdays christmas easter halloween thanksgiving hanukkah ramadan diwali holiday holidays
        eve fortnight solstice equinox yearly annual annually monthly day days week weeks month
        months year years
    '),
    ('months', '
        january february march april june july august september october november december jan feb
        apr jun jul aug sept nov
    '),
    ('people', '
        man men woman women boy boys girl girls child children kid kids person people adult adults
        teenager teenagers friend friends neighbour neighbours neighbor neighbors stranger strangers
        guest guests king kings queen queens prince princes princess princesses knight knights lord
        lady ladies gentleman gentlemen soldier soldiers captain sailor sailors farmer farmers baker
        butcher chef carpenter policeman policemen firefighter fireman hunter hunters fisherman pilot
        author authors writer writers leader leaders servant servants thief thieves robber hero
        heroes witch wizard clown customer customers
    '),
    ('family', '
        family families mother mothers father fathers mom moms mommy mum mummy mama dad dads daddy
        papa parent parents son sons daughter daughters brother brothers sister sisters sibling
        siblings twin twins grandma grandmother grandpa grandfather grandparents grandson
        granddaughter grandchild grandchildren uncle uncles aunt aunts auntie cousin cousins nephew
        niece husband husbands wife wives spouse bride groom marriage married marry wedding widow
        baby babies newborn relatives ancestor ancestors stepmother stepfather orphan
    '),
    ('nature', '
        nature river rivers lake lakes sea seas ocean oceans mountain mountains hill hills valley
        valleys forest forests woods jungle desert deserts island islands beach beaches shore coast
        cliff cliffs cave caves rock rocks stone stones sand mud soil ground pond ponds waterfall
        meadow meadows sky skies star stars moon sun planet planets horizon volcano volcanoes canyon
        glacier swamp puddle puddles waves wilderness landscape sunrise sunset sunlight moonlight
        tide lagoon
    '),
    ('weather', '
        weather rain rains rained raining rainy raindrops rainbow snow snows snowed snowing snowy
        snowflake snowflakes wind winds windy storm storms stormy thunder thunderstorm lightning
        cloud clouds cloudy fog foggy mist misty hail frost frosty ice icy breeze breezy sunny
        sunshine hurricane hurricanes tornado blizzard drizzle drought flood floods humid humidity
        temperature temperatures climate forecast forecasts warm warmer warmth cold colder hot
        hotter chilly freezing
    '),
    ('animals', '
        animal animals dog dogs puppy puppies cat cats kitten kittens bird birds fish fishes rabbit
        rabbits bunny bunnies bear bears mouse mice rat rats horse horses pony cow cows pig pigs
        sheep lamb goat goats chicken chickens hen duck ducks goose frog frogs turtle turtles snake
        snakes lizard fox foxes wolf wolves lion lions tiger tigers elephant elephants monkey monkeys
        giraffe zebra deer squirrel squirrels owl owls eagle parrot bee bees ants butterfly
        butterflies spider spiders worm worms insect insects whale dolphin shark penguin dragon pet
        pets
    '),
    ('plants', '
        plant plants tree trees flower flowers leaf grass bush bushes twig twigs roots seeds rose
        roses tulip tulips daisy daisies sunflower sunflowers ivy moss fern ferns vine vines oak pine
        maple willow birch cactus bamboo mushroom mushrooms blossom blossoms bloom bloomed petal
        petals stems thorn thorns garden gardens gardener weeds hay orchard hedge crops wheat barley
        acorn acorns pollen herb herbs shrub shrubs sapling seedling seedlings sprout sprouts
        vegetation foliage
    '),
    ('countries', '
        england britain scotland wales ireland france germany spain portugal italy greece
        netherlands belgium luxembourg switzerland austria denmark norway sweden finland iceland
        poland hungary romania bulgaria serbia croatia slovenia slovakia estonia latvia lithuania
        albania russia ukraine china japan korea india pakistan bangladesh nepal thailand
        vietnam indonesia malaysia philippines australia canada america mexico brazil argentina
        chile peru colombia venezuela ecuador bolivia uruguay paraguay cuba jamaica egypt morocco
        algeria tunisia ethiopia kenya nigeria ghana senegal tanzania israel iran iraq syria lebanon
        afghanistan
    '),
    ('cities', '
        london paris berlin madrid rome lisbon dublin edinburgh amsterdam brussels vienna zurich
        geneva copenhagen oslo stockholm helsinki warsaw prague budapest bucharest athens istanbul
        moscow kyiv tokyo kyoto osaka beijing shanghai seoul delhi mumbai kolkata karachi dhaka
        bangkok hanoi jakarta manila singapore sydney melbourne toronto montreal vancouver chicago
        boston philadelphia houston dallas seattle denver detroit miami atlanta havana bogota lima
        caracas cairo nairobi lagos johannesburg casablanca tehran baghdad jerusalem dubai milan
        naples venice barcelona munich hamburg manchester liverpool
    '),
    ('biology', '
        biology biological biologist biologists cell cells cellular dna rna gene genes genetic
        genetics genome genomes protein proteins enzyme enzymes bacteria bacterium virus viruses
        species organism organisms evolution evolved evolutionary mutation mutations chromosome
        chromosomes tissue tissues membrane membranes nucleus metabolism metabolic photosynthesis
        ecosystem ecosystems hormone hormones neuron neurons embryo embryos fossil fossils habitat
        habitats predator predators prey mammal mammals reptile reptiles microbe microbes fungus
        fungi parasite parasites symbiosis offspring antibody antibodies receptor receptors
    '),
    ('body', '
        body bodies head heads face faces eye eyes ear ears nose noses mouth mouths lip lips tooth
        teeth tongue chin cheek cheeks neck throat shoulder shoulders arm arms elbow elbows wrist
        hand hands finger fingers thumb thumbs chest stomach belly tummy waist hips leg legs knee
        knees ankle foot feet toe toes skin bone bones blood heart hearts brain brains lung lungs
        liver muscle muscles hair beard forehead skull spine fist paw paws tail tails wing wings fur
        feather feathers claw claws
    '),
    ('food', '
        food foods eat eats ate eaten eating breakfast lunch dinner supper meal meals snack snacks
        bread cake cakes pie pizza sandwich sandwiches soup cheese butter milk egg eggs meat beef
        pork sausage bacon rice pasta potato potatoes tomato tomatoes carrot carrots onion onions
        beans apple apples banana bananas pear peach cherry cherries strawberry strawberries berries
        grapes lemon fruit fruits vegetable vegetables sugar salt honey jam chocolate candy candies
        juice tea coffee wine beer delicious tasty yummy hungry cook cooked cooking recipe recipes
    '),
    ('colours', '
        colour colours color colors coloured colored colourful colorful red blue green yellow orange
        purple pink brown black white grey gray violet indigo turquoise crimson scarlet golden silver
        gold beige maroon magenta cyan teal lavender ivory azure shade shades tint reddish bluish
        greenish yellowish pinkish
    '),
    ('numbers', '
        zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
        sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
        hundred hundreds thousand thousands million millions billion billions trillion dozen dozens
        half third fourth fifth sixth seventh eighth ninth tenth twice thrice 0 1 2 3 4 5 6 7 8 9 10
        11 12 16 20 32 50 64 100 128 256 1000
    '),
    ('clothing', '
        clothes clothing dress dresses shirt shirts skirt skirts pants trousers jeans shorts sock
        socks shoe shoes boot boots sandal sandals slippers sneakers hat hats helmet scarf glove
        gloves mittens coat coats jacket jackets sweater jumper cardigan vest belt zipper pocket
        pockets sleeve sleeves collar robe cloak apron uniform uniforms costume costumes pyjamas
        pajamas underwear wear wears wearing wore worn jewellery jewelry necklace bracelet earrings
        tailor fabric cloth cotton wool silk leather
    '),
    ('house', '
        house houses home homes room rooms kitchen bedroom bathroom hallway attic basement cellar
        roof wall walls floor ceiling door doors window windows stairs staircase chimney fireplace
        garage porch balcony fence furniture table tables chair chairs sofa couch bed beds desk shelf
        shelves cupboard drawer drawers closet wardrobe lamp lamps mirror curtain curtains carpet rug
        pillow pillows blanket blankets towel towels bath bathtub shower toilet oven stove fridge
        refrigerator cup cups plate plates bowl bowls spoon kettle broom candle candles vase cottage
    '),
    ('travel', '
        vehicle vehicles car cars truck trucks bus buses van taxi train trains tram bicycle bicycles
        bike bikes motorcycle scooter boat boats ship ships sailed sailing ferry canoe raft submarine
        plane planes airplane airplanes aeroplane helicopter rocket rockets tractor wagon carriage
        wheel wheels tire tires road roads street streets highway bridge bridges tunnel station
        airport harbour harbor railway traffic travel travels travelled traveled travelling traveling
        traveller journey journeys trip trips voyage passenger passengers luggage suitcase drove
        driver drivers ride rode riding
    '),
    ('money', '
        money coin coins cash dollar dollars euro euros cent cents penny pennies pounds yen price
        prices priced cheap expensive buy buys buying bought sell sells selling sold sale sales shop
        shops market markets bank banks pay pays paid paying payment payments wage wages salary
        salaries rich richer wealth wealthy debt debts loan loans credit tax taxes profit profits
        income budget fee fees rent wallet purse treasure invest investment investments investor
        investors currency currencies financial finance economy economic
    '),
    ('work', '
        job jobs employ employed employee employees employer employers employment boss manager
        managers office offices company companies business businesses career careers profession
        professional professionals hire hired factory factories industry industries industrial staff
        colleague colleagues labour labor labourer worker workers workplace workshop meeting meetings
        deadline deadlines tools builder builders construction craft craftsman duty duties apprentice
        retire retired retirement unemployed unemployment overtime freelance
    '),
    ('school', '
        school schools classroom classrooms teacher teachers student students pupil pupils lesson
        lessons homework study studies studied studying learn learns learned learnt learning teach
        teaches taught teaching exam exams examination quiz grade grades college colleges university
        universities professor professors education educational kindergarten campus pencil pencils
        textbook textbooks blackboard chalk backpack semester graduate graduated graduation diploma
        scholar scholars scholarship academic academy tutor lecture lectures curriculum alphabet
        spelling
    '),
    ('arts', '
        music musical musician musicians song songs sing sings sang sung singing singer singers
        melody melodies tune tunes rhythm dance dances danced dancing dancer dancers orchestra piano
        guitar violin drum drums flute trumpet concert concerts choir opera symphony composer art
        arts artist artists artistic paint painted painting paintings painter drew drawing drawings
        sketch sculpture sculptor statue museum gallery theatre theater actor actors actress film
        films movie movies cinema poem poems poet poets poetry novel novels literature tale tales
        crayon crayons
    '),
    ('sports', '
        play plays played playing player players game games toy toys ball balls doll dolls puzzle
        puzzles kite kites swings seesaw playground football soccer basketball baseball tennis
        cricket hockey golf rugby volleyball swimming skating skiing boxing wrestling race races
        raced racing wins winning won winner winners champion champions championship tournament team
        teams athlete athletes olympic olympics stadium referee trophy medal medals chess dice
        jigsaw marbles sport sports fun
    '),
    ('speech', '
        say says said saying tell tells told telling ask asks asked asking answer answers answered
        answering reply replies replied speak speaks spoke spoken speaking talk talks talked talking
        whisper whispers whispered whispering shout shouts shouted shouting yell yelled yelling
        scream screamed screaming exclaim exclaimed mutter muttered mumbled announce announced
        explain explained explains mention mentioned promise promised complain complained suggest
        suggested scold scolded beg begged chat chatted conversation conversations speech speeches
        dialogue gossip
    '),
    ('movement', '
        run runs ran running walk walks walked walking go goes went gone going come comes came coming
        jump jumps jumped jumping hop hopped hopping skipped climb climbs climbed climbing crawl
        crawled crawling swim swims swam fly flies flew flying fell fallen falling marched rush
        rushed hurry hurried chase chased chasing rolled slid throwing threw pushed pulled pulling
        spin spun bounce bounced wander wandered move moves moved moving flee fled arrive arrived
        carry carried
    '),
    ('perception', '
        see sees saw seen seeing look looks looked looking watch watches watched watching stare
        stared staring glance glanced gaze gazed notice noticed observe observed listen listens
        listened listening hear hears heard hearing smell smells smelled smelling smelly taste tastes
        tasted tasting touch touches touched touching feel feels felt feeling sight sights visible
        invisible vision glimpse peek peeked peered sense senses sensed spotted blind deaf
    '),
    ('thought', '
        think thinks thought thoughts thinking know knows knew known knowing knowledge believe
        believes believed belief beliefs understand understands understood understanding remember
        remembers remembered remembering forget forgets forgot forgotten wonder wonders wondered
        wondering imagine imagined imagination idea ideas mind minds decide decides decided decision
        decisions guess guessed realise realised realize realized doubt doubts doubted suppose
        consider considered considering opinion opinions memories dream dreams dreamed dreamt curious
        clever smart wise wisdom intelligent intelligence confused
    '),
    ('programming', '
        function functions class classes method methods argument arguments parameter parameters
        variable variables module modules import imports imported package packages string strings
        integer integers int float bool boolean tuple tuples list lists dict dictionary array arrays
        object objects attribute attributes loop loops iterator iterators exception exceptions error
        errors traceback code compiler compile compiled interpreter syntax parser parse parsed file
        files directory directories server client socket thread threads database byte bytes buffer
        debug debugger software program programs programmer programming callback decorator
    '),
    ('law', '
        law laws legal illegal lawyer lawyers judge judges court courts jury trial trials crime
        crimes criminal criminals police prison prisoner prisoners jail arrest arrested guilty
        innocent justice government governments president presidents minister ministers parliament
        senate senator senators congress election elections elected vote votes voted voters political
        politics politician politicians policy policies democracy democratic republic republican
        constitution constitutional citizen citizens treaty treaties military army
    '),
    ('religion', '
        god gods goddess church churches priest priests pray prayed prayer prayers praying bible
        temple temples mosque synagogue religion religions religious faith holy saint saints angel
        angels heaven hell devil soul souls spirit spirits sacred bless blessed blessing jesus christ
        christian christians christianity islam islamic muslim muslims jewish judaism buddha buddhist
        buddhism hindu hinduism monk monks nun pope bishop bishops gospel worship miracle miracles
        divine ritual rituals hymn sermon
    '),
    ('medicine', '
        doctor doctors nurse nurses hospital hospitals medicine medicines medical patients
        sick ill illness sickness disease diseases pain pains hurts fever cough coughing flu
        infection infections infected wound wounds wounded injury injuries injured surgery surgeon
        treatment treatments cure cured heal healed healing health healthy unhealthy clinic clinical
        symptom symptoms diagnosis diagnosed drug drugs pill pills vaccine vaccines vaccination
        bandage bandages ambulance dentist cancer diabetes allergy allergic asthma therapy pregnant
        pregnancy prescription bleeding
    '),
    ('chemistry', '
        chemical chemicals chemistry chemist chemists acid acids acidic alkaline molecule molecules
        molecular atom atoms ion ions electron electrons proton protons neutron neutrons hydrogen
        oxygen nitrogen carbon helium sodium potassium calcium chlorine iron copper zinc silver gold
        uranium sulfur sulphur phosphorus metal metals alloy alloys oxide oxides oxidation compounds
        solvent solvents polymer polymers catalyst reactions gas gases liquid liquids crystal
        crystals ethanol methane ammonia isotope isotopes reagent laboratory distillation
    '),
    ('mathematics', '
        mathematics mathematical math maths arithmetic algebra geometry geometric calculus
        trigonometry theorem theorems proof proofs lemma equation equations formula formulas addition
        subtract subtraction multiply multiplied multiplication divide divided division divisor
        quotient sums squared exponent exponents exponential logarithm logarithms sine cosine tangent
        angle angles triangle triangles circle circles rectangle polygon fraction fractions decimal
        decimals numerator denominator numeric matrix matrices vector vectors polynomial polynomials
        primes factorial probability statistics statistical median variance modulo infinity infinite
        diameter radius integer integers
    '),
    ('negation', '
        not no never nothing nobody nowhere neither nor cannot can''t don''t doesn''t didn''t won''t
        wouldn''t couldn''t shouldn''t isn''t aren''t wasn''t weren''t haven''t hasn''t hadn''t ain''t
        mustn''t needn''t without unable impossible unlikely hardly
    '),
    ('politeness', '
        please thank thanks thanked thankful thankfully sorry apologise apologised apologize
        apologized apology apologies excuse pardon welcome polite politely politeness kindly kindness
        sir madam ma''am mr mrs hello hi goodbye bye greetings greeted forgive forgave forgiven
        manners courtesy courteous respect respectful respectfully gracious graciously rude rudely
        impolite regards
    '),
    ('sound', '
        sound sounds sounded noise noises noisy loud louder loudly quiet quietly silence silent
        silently bang banged boom rang ringing bell bells buzz buzzed buzzing hum hummed roar roared
        roaring bark barked barking meow meowed moo growl growled chirp chirped chirping squeak
        squeaked squeaky splash splashed clap clapped clapping knock knocked thud whistle whistled
        hiss hissed echoes voice voices rustle rustled creak rumble popped sigh sighed laughed
        laughter giggle giggled cheered quack
    ')
) as lists (category, words);
